"""The same model as a PyTorch module, trained by PyTorch with the same hyperparameters."""

from __future__ import annotations

import copy
import time
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from npnlp.exchange.torch_model import torch_model
from npnlp.lab.comparison import Entrant, Result
from npnlp.models import ClassifierConfig
from npnlp.text import SurnameDataset
from npnlp.training.config import TrainingConfig
from npnlp.training.schedule import EarlyStopping, ReduceLROnPlateau


class Rows:
    """A split as padded tensors."""

    def __init__(self, dataset: SurnameDataset, split: str) -> None:
        arrays = dataset.arrays(split)
        self.lengths = torch.tensor(arrays.lengths)
        self.targets = torch.tensor(arrays.targets)
        names = torch.tensor(arrays.tokens, dtype=torch.long).split(arrays.lengths.tolist())
        padding = dataset.get_vectorizer().char_vocab.mask_index
        self.tokens = torch.nn.utils.rnn.pad_sequence(
            list(names), batch_first=True, padding_value=padding
        )

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, rows: Any) -> tuple[Any, Any, Any]:
        """Tokens, lengths and targets of some rows, no wider than the longest of them."""
        lengths = self.lengths[rows]
        return self.tokens[rows, : int(lengths.max())], lengths, self.targets[rows]


def logits_of(model: Any, split: Rows) -> Any:
    """Those of every row, dropout off."""
    model.eval()
    with torch.no_grad():
        parts = torch.arange(len(split)).split(512)
        return torch.cat([model(*split.batch(rows)[:2]) for rows in parts])


def train(entrant: Entrant, dataset: SurnameDataset, seed: int) -> Result:
    """Adam, early stopping and the halved rate as in this project; first weights are PyTorch's."""
    settings = TrainingConfig(**entrant.training, seed=seed)
    vectorizer = dataset.get_vectorizer()
    config = ClassifierConfig(
        num_embeddings=len(vectorizer.char_vocab),
        num_classes=len(vectorizer.nationality_vocab),
        padding_idx=vectorizer.char_vocab.mask_index,
        unk_idx=vectorizer.char_vocab.unk_index,
        **entrant.shape,
    )
    train_rows, val_rows, test_rows = (Rows(dataset, s) for s in ("train", "val", "test"))
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    started = time.process_time()
    model = torch_model(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    schedule = ReduceLROnPlateau(settings.learning_rate)
    stopper = EarlyStopping(settings.early_stopping_criteria)
    best, epochs = copy.deepcopy(model.state_dict()), 0
    while epochs < settings.num_epochs and not stopper.stop:
        model.train()
        for rows in torch.randperm(len(train_rows)).split(settings.batch_size):
            tokens, lengths, targets = train_rows.batch(rows)
            optimizer.zero_grad()
            cross_entropy(model(tokens, lengths), targets).backward()
            optimizer.step()
        loss = float(cross_entropy(logits_of(model, val_rows), val_rows.targets))
        if stopper.step(loss):
            best = copy.deepcopy(model.state_dict())
        for group in optimizer.param_groups:
            group["lr"] = schedule.step(loss)
        epochs += 1
    seconds = time.process_time() - started
    model.load_state_dict(best)
    return Result(
        entrant=f"pytorch-{entrant.name}",
        seed=seed,
        probabilities={
            "val": logits_of(model, val_rows).softmax(dim=1).numpy(),
            "test": logits_of(model, test_rows).softmax(dim=1).numpy(),
        },
        parameters=config.parameter_count,
        seconds=seconds,
        epochs=epochs,
    )
