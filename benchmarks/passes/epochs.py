"""Training epochs of the surname classifier, this project's and PyTorch's, measured interleaved."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from tqdm import tqdm

from npnlp.backend import Backend, Random, get_backend
from npnlp.cli.script import imports_of
from npnlp.errors import DeviceError
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SplitArrays, SurnameDataset
from npnlp.training.config import TrainingConfig
from npnlp.training.trainer import Trainer

with imports_of("torch"):
    import torch
    from threadpoolctl import threadpool_limits
    from torch import nn
    from torch.nn import functional
    from torch.nn.utils.rnn import pack_padded_sequence

EMBEDDING, BATCH = 100, 64
COMPILED = "npnlp --backend numba"
MODULES = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}

__all__ = [
    "BATCH",
    "EMBEDDING",
    "MODULES",
    "measure",
    "npnlp_epoch",
    "own_epochs",
    "report",
    "threadpool_limits",
    "torch",
    "torch_epoch",
]

Epoch = Callable[[int], float]


class TorchClassifier(nn.Module):
    """The model in PyTorch; ``way`` says how the recurrent layer reads a padded batch."""

    def __init__(
        self, characters: int, classes: int, way: str, cell: str = "elman", hidden: int = 64
    ) -> None:
        super().__init__()
        self.way, self.hidden = way, hidden
        self.emb = nn.Embedding(characters, EMBEDDING, padding_idx=0)
        if way == "steps":
            self.cell = nn.RNNCell(EMBEDDING, hidden)
        else:
            self.rnn = MODULES[cell](EMBEDDING, hidden, batch_first=True)
        self.fc1 = nn.Linear(hidden, hidden)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Logits of padded tokens ``(B, T)``."""
        h = getattr(self, f"last_{self.way}")(self.emb(tokens), lengths)
        h = functional.relu(self.fc1(functional.dropout(h, 0.5)))
        return self.fc2(functional.dropout(h, 0.5))

    def last_packed(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """The module on a packed sequence."""
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        last = self.rnn(packed)[1]
        return (last[0] if isinstance(last, tuple) else last)[0]

    def last_padded(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """The module on all padded steps, then one gather."""
        return self.rnn(x)[0][torch.arange(len(x)), lengths - 1]

    def last_steps(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """A cell called step by step, then a gather row by row, as the book's notebook has it."""
        hidden = torch.zeros(len(x), self.hidden)
        states = []
        for x_t in x.permute(1, 0, 2):
            hidden = self.cell(x_t, hidden)
            states.append(hidden)
        stacked = torch.stack(states).permute(1, 0, 2)
        places = lengths.long().detach().cpu().numpy() - 1
        return torch.stack([stacked[row, place] for row, place in enumerate(places)])


def padded(split: SplitArrays) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A split as PyTorch tensors: tokens ``(n, T)`` padded with 0, lengths, targets."""
    tokens = np.zeros((len(split), int(split.lengths.max())), dtype=np.int64)
    inside = np.arange(tokens.shape[1]) < split.lengths[:, None]
    tokens[inside] = split.tokens
    return (
        torch.from_numpy(tokens),
        torch.from_numpy(split.lengths),
        torch.from_numpy(split.targets),
    )


def torch_epoch(
    dataset: SurnameDataset,
    way: str,
    cell: str = "elman",
    hidden: int = 64,
    loader: bool = False,
) -> Epoch:
    """An epoch in PyTorch; with ``loader`` rows come one by one out of the data frame."""
    split = dataset.arrays("train")
    tokens, lengths, targets = padded(split)
    vectorizer = dataset.get_vectorizer()
    torch.manual_seed(0)
    sizes = len(vectorizer.char_vocab), len(vectorizer.nationality_vocab)
    model = TorchClassifier(*sizes, way, cell, hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()

    def in_order() -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        for rows in torch.randperm(len(split)).split(BATCH):
            longest = int(lengths[rows].max())
            yield tokens[rows, :longest], lengths[rows], targets[rows]

    def row_by_row() -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        rows: Any = dataset
        made = torch.utils.data.DataLoader(rows, batch_size=BATCH, shuffle=True, drop_last=True)
        for batch in made:
            yield batch["x_data"], batch["x_length"], batch["y_target"]

    def epoch(number: int) -> float:
        started = time.perf_counter()
        running_loss = running_accuracy = 0.0
        for index, (x, length, target) in enumerate(row_by_row() if loader else in_order()):
            optimizer.zero_grad()
            logits = model(x, length)
            loss = criterion(logits, target)
            running_loss += (loss.item() - running_loss) / (index + 1)
            loss.backward()
            optimizer.step()
            accuracy = (logits.argmax(dim=1) == target).float().mean().item()
            running_accuracy += (accuracy - running_accuracy) / (index + 1)
        return time.perf_counter() - started

    return epoch


def npnlp_epoch(
    dataset: SurnameDataset, cell: str = "elman", hidden: int = 64, backend: Backend | None = None
) -> Epoch:
    """An epoch of this project, with its norms and its log; evaluation is not counted.

    The gradient flow is not recorded: PyTorch's ways have none, and benchmarks/probe_cost.py says
    what it takes.
    """
    vectorizer = dataset.get_vectorizer()
    config = ClassifierConfig(
        len(vectorizer.char_vocab), len(vectorizer.nationality_vocab), EMBEDDING, hidden, cell=cell
    )
    model = SurnameClassifier(config, backend=backend, random=Random(0, "model"))
    training = TrainingConfig(num_epochs=10**6, batch_size=BATCH, gradient_flow=False)
    trainer = Trainer(model, dataset.arrays("train"), dataset.arrays("val"), training)
    return lambda number: trainer.run_epoch()["seconds"]


def own_epochs(
    dataset: SurnameDataset, cell: str = "elman", hidden: int = 64, backend: Backend | None = None
) -> dict[str, Epoch]:
    """Those of this project: "npnlp", and the compiled loops where Numba is installed."""
    ways = {"npnlp": npnlp_epoch(dataset, cell, hidden, backend)}
    with suppress(DeviceError):
        ways[COMPILED] = npnlp_epoch(dataset, cell, hidden, get_backend("numba"))
    return ways


def measure(
    ways: dict[str, Epoch], threads: list[int], rounds: int
) -> dict[tuple[str, int], list[float]]:
    """Seconds of an epoch of every way at every thread count, ``rounds`` times, interleaved."""
    seconds: dict[tuple[str, int], list[float]] = {}
    total = (rounds + 1) * len(threads) * len(ways)
    with tqdm(total=total, unit="epoch", disable=None) as bar:
        for number in range(-1, rounds):  # the round before the first warms up
            for count in threads:
                torch.set_num_threads(count)
                with threadpool_limits(count):
                    for way, epoch in ways.items():
                        taken = epoch(number)
                        bar.update()
                        if number >= 0:
                            seconds.setdefault((way, count), []).append(taken)
    return seconds


def report(seconds: dict[tuple[str, int], list[float]], names: int) -> list[dict[str, Any]]:
    """A row a way: its best thread count, median, and ratio to NumPy's with quartiles.

    Where the compiled backend was measured too, ``compiled_ratio`` is that to it.
    """
    best: dict[str, int] = {}
    for way, count in seconds:
        medians = statistics.median(seconds[way, count])
        if way not in best or medians < statistics.median(seconds[way, best[way]]):
            best[way] = count
    rows = []
    for way, count in best.items():
        theirs = seconds[way, count]
        row = {
            "way": way,
            "threads": count,
            "epoch_seconds": statistics.median(theirs),
            "names_per_second": names / statistics.median(theirs),
        }
        for column, ours in {"ratio": "npnlp", "compiled_ratio": COMPILED}.items():
            if ours in best:
                pairs = zip(theirs, seconds[ours, best[ours]], strict=True)
                found = np.percentile([t / o for t, o in pairs], [50, 25, 75]).tolist()
                row |= dict(zip((column, f"{column}_q25", f"{column}_q75"), found, strict=True))
        rows.append(row)
    return rows
