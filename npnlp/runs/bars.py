"""Progress bars: one of the epochs, and below it one of the batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from tqdm import tqdm

from npnlp.training.trainer import Trainer


class Watcher(Protocol):
    """What is told of a training as it goes on; an :class:`Interrupted` that it raises ends it."""

    def batch(self) -> None:
        """A batch is done."""

    def epoch(self, row: Mapping[str, float]) -> None:
        """An epoch is done; ``row`` is that of its history."""


@dataclass
class Bars:
    """The two bars of a training, told what is done."""

    epochs: Any
    batches: Any

    def batch(self) -> None:
        """A batch is done."""
        self.batches.update()

    def epoch(self, row: Mapping[str, float]) -> None:
        """An epoch is done; ``row`` is that of its history."""
        self.epochs.update()
        self.epochs.set_postfix(
            val_loss=f"{row['val_loss']:.4f}", val_accuracy=f"{row['val_accuracy']:.3f}"
        )
        self.batches.reset()


@contextmanager
def progress_bars(trainer: Trainer, wanted: bool) -> Iterator[Bars]:
    """Bars from where ``trainer`` stands, on a terminal, if they are ``wanted``."""
    hidden = None if wanted else True  # None: tqdm is quiet where standard error is no terminal
    with (
        tqdm(
            desc="epochs", total=trainer.config.num_epochs, disable=hidden,
            initial=trainer.progress.epoch, unit="epoch", position=0,
        ) as epochs,
        tqdm(
            desc="batches", total=trainer.batches_per_epoch, disable=hidden,
            unit="batch", position=1, leave=False,
        ) as batches,
    ):  # fmt: skip
        batches.update(trainer.progress.batch)
        yield Bars(epochs, batches)
