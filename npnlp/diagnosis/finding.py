"""The black box: where a number first was not finite, in the step that training stopped at.

A step is a function of weights, batch, seed and step number, so it can be repeated exactly. In a
healthy step nothing of this is done: :class:`npnlp.training.updater.Updater` tests three numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from npnlp.backend import Backend
from npnlp.diagnosis.arrays import ArrayCheck, check_step
from npnlp.errors import DivergenceError
from npnlp.training.step_record import Replay


@dataclass(frozen=True)
class Finding:
    """Where a step first was not finite; ``epoch`` and ``batch`` count from 1.

    ``name`` is the name in the row; ``repeats`` is False where the step, repeated, is finite. For
    the rest see :class:`ArrayCheck`.
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
    """Repeat the step; the first number that is not finite, or None where all are."""
    return finding_of(replay, check_step(replay, backend))


def finding_of(replay: Replay, checks: Sequence[ArrayCheck]) -> Finding | None:
    """The finding of the first array that is not finite, or None."""
    for check in checks:
        if check.value:
            taken = {name: value for name, value in vars(check).items() if name != "largest"}
            finding = Finding(replay.epoch, replay.batch, split=replay.split, **taken)
            return named(finding, replay)
    return None


def named(finding: Finding, replay: Replay) -> Finding:
    """The finding with the name of its row, where the replay knows it."""
    if finding.row is None or not replay.names:
        return finding
    place = int(np.flatnonzero(replay.rows == finding.row)[0])
    return replace(finding, name=replay.names[place])


def examine(replay: Replay, backend: Backend, seen: Mapping[str, float]) -> None:
    """Look into a step for :class:`npnlp.training.updater.Updater`, which has ``seen`` numbers.

    Raises :class:`DivergenceError` where a number of the step is not finite.
    """
    finding = diagnose(replay, backend)
    for where, value in seen.items():
        if finding is None and not np.isfinite(value):
            finding = Finding(replay.epoch, replay.batch, where, "all parameters", str(value),
                              repeats=False)  # fmt: skip
    if finding is not None:
        raise DivergenceError(str(finding), finding, replay)
