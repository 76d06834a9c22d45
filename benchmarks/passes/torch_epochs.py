"""Training epochs of the surname classifier in PyTorch, the way it may be written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from npnlp.cli.script import imports_of
from npnlp.text import SplitArrays, SurnameDataset
from passes.epochs import BATCH, EMBEDDING, Epoch

with imports_of("torch"):
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.nn.utils.rnn import pack_padded_sequence

MODULES = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}

__all__ = ["MODULES", "torch", "torch_epoch"]


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
    compiled: bool = False,
) -> Epoch:
    """An epoch in PyTorch; with ``loader`` rows come one by one out of the data frame.

    ``compiled`` gives the model to ``torch.compile``, which leaves a recurrent module as it is and
    compiles what stands around it.
    """
    split = dataset.arrays("train")
    tokens, lengths, targets = padded(split)
    vectorizer = dataset.get_vectorizer()
    torch.manual_seed(0)
    sizes = len(vectorizer.char_vocab), len(vectorizer.nationality_vocab)
    model: Any = TorchClassifier(*sizes, way, cell, hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()
    call = torch.compile(model, dynamic=True) if compiled else model

    def in_order() -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        for rows in torch.randperm(len(split)).split(BATCH):
            longest = int(lengths[rows].max())
            yield tokens[rows, :longest], lengths[rows], targets[rows]

    def row_by_row() -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        rows: Any = dataset
        made = torch.utils.data.DataLoader(rows, batch_size=BATCH, shuffle=True, drop_last=True)
        for batch in made:
            yield batch["x_data"], batch["x_length"], batch["y_target"]

    def epoch() -> None:
        running_loss = running_accuracy = 0.0
        for index, (x, length, target) in enumerate(row_by_row() if loader else in_order()):
            optimizer.zero_grad()
            logits = call(x, length)
            loss = criterion(logits, target)
            running_loss += (loss.item() - running_loss) / (index + 1)
            loss.backward()
            optimizer.step()
            accuracy = (logits.argmax(dim=1) == target).float().mean().item()
            running_accuracy += (accuracy - running_accuracy) / (index + 1)

    return epoch
