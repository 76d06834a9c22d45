"""The black box: where a number first was not finite, in the step that training stopped at.

A step is a function of weights, batch, seed and step number, so it can be repeated exactly. In a
healthy step nothing is done but a test of three numbers, see :meth:`Trainer.step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Backend
from npnlp.classifier.batches import batches
from npnlp.classifier.evaluation import EVALUATION_BATCH
from npnlp.diagnosis.readings import Reading, read_step
from npnlp.diagnosis.replay import Replay
from npnlp.errors import DivergenceError
from npnlp.training.trainer import Trainer


@dataclass(frozen=True)
class Finding:
    """Where a step first was not finite; ``epoch`` and ``batch`` count from 1.

    ``name`` is the name in the row; ``repeats`` is False where the step, repeated, is finite. For
    the rest see :class:`Reading`.
    """

    epoch: int
    batch: int
    where: str
    layer: str
    value: str
    parameter: str | None = None
    index: tuple[int, ...] = ()
    step: int | None = None
    row: int | None = None
    split: str = "train"
    name: str | None = None
    repeats: bool = True

    def __str__(self) -> str:
        of_split = "" if self.split == "train" else f" of {self.split}"
        return f"epoch {self.epoch}, batch {self.batch}{of_split}: {self._what}{self._place}"

    @property
    def _what(self) -> str:
        number = self.parameter or self.layer
        if self.parameter and self.index:
            number += str(list(self.index))
        if self.where == "update":
            return f"the update would make {number} {self.value}"
        subject = {
            "weight": f"weight {number}",
            "loss": "loss",
            "gradient norm": f"squared norm of the gradient of {number}",
        }.get(self.where, f"{self.where} of {number}")
        return f"{subject} is {self.value}"

    @property
    def _place(self) -> str:
        if not self.repeats:
            return ", but not when the step is repeated"
        if self.row is None:
            return ""
        used = ", first used" if self.where == "weight" else ""
        step = "" if self.step is None else f" step t = {self.step} of"
        name = "" if self.name is None else f" ({self.name!r})"
        return f"{used} at{step} row {self.row} of {self.split}{name}"


def diagnose(replay: Replay, backend: Backend) -> Finding | None:
    """Repeat the step; what first is not finite in it, or None where all is."""
    return finding_of(replay, read_step(replay, backend))


def finding_of(replay: Replay, readings: Sequence[Reading]) -> Finding | None:
    """The first of the readings that is not finite."""
    for reading in readings:
        if reading.value:
            taken = {name: value for name, value in vars(reading).items() if name != "largest"}
            finding = Finding(replay.epoch, replay.batch, split=replay.split, **taken)
            return named(finding, replay)
    return None


def named(finding: Finding, replay: Replay) -> Finding:
    """The finding with the name of its row, where the replay knows it."""
    if finding.row is None or not replay.names:
        return finding
    place = int(np.flatnonzero(replay.rows == finding.row)[0])
    return replace(finding, name=replay.names[place])


def examine(trainer: Trainer, rows: NDArray[np.int64], loss: float, norm: float) -> None:
    """Look into the step that ``trainer`` is about to take, of which it has loss and norm.

    Raises :class:`DivergenceError` where a number of it is not finite.
    """
    replay = Replay.of(trainer, rows, "train", trainer.progress.batch + 1)
    finding = diagnose(replay, trainer.model.backend)
    for where, value in (("loss", loss), ("gradient norm", norm)):
        if finding is None and not np.isfinite(value):
            finding = Finding(replay.epoch, replay.batch, where, "all parameters", str(value),
                              repeats=False)  # fmt: skip
    if finding is not None:
        raise DivergenceError(str(finding), finding, replay)


def examine_validation(trainer: Trainer) -> None:
    """The same for the forward passes over the validation split, in the order of evaluation."""
    order = np.argsort(trainer.val.lengths, kind="stable")
    backend = trainer.model.backend
    for number, batch in enumerate(batches(trainer.val, order, EVALUATION_BATCH, backend), start=1):
        replay = Replay.of(trainer, batch.rows, "val", number)
        finding = diagnose(replay, backend)
        if finding is not None:
            raise DivergenceError(str(finding), finding, replay)
