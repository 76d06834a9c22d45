"""What a model keeps of the rows held out: how sure it was, and what was true.

Thresholds, sets (:mod:`npnlp.classifier.decision`) and shares of classes
(:mod:`npnlp.classifier.prior`) are found from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError, short
from npnlp.files.rows import rows_of_text, rows_to_text
from npnlp.summary import summarized

#: The temperature stays within these factors of 1, also where all rows held out are right.
MOST = 20.0
#: The arrays, and the kind of their numbers.
KINDS = {"confidence": "f", "truth": "f", "target": "i", "shares": "f"}


@summarized
@dataclass(frozen=True, eq=False)
class Calibration:
    """The temperature of a model, and what it said of n rows held out, with that temperature.

    ``confidence (n,)`` is the largest probability of each row, ``truth (n,)`` that of its class,
    ``target (n,)``, and ``shares (C,)`` the mean probability of each class. A row was right where
    its class had the largest: of equal ones, either may be.
    """

    temperature: float
    confidence: NDArray[np.float32]
    truth: NDArray[np.float32]
    target: NDArray[np.int32]
    shares: NDArray[np.float64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each row's answer was right."""
        return self.truth >= self.confidence

    def to_serializable(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        held = {name: getattr(self, name) for name in KINDS}
        return {"temperature": self.temperature, "held": rows_to_text(held)}

    @classmethod
    def from_serializable(cls, values: Any, classes: int) -> Self:
        """Undo :meth:`to_serializable`; raises :class:`InputError` where it cannot be."""
        if not isinstance(values, Mapping) or set(values) != {"temperature", "held"}:
            raise InputError(f"calibration is {short(values)}; it has to hold temperature and held")
        temperature, held = values["temperature"], rows_of_text("held", values["held"])
        if type(temperature) not in (int, float) or not 1 / MOST <= temperature <= MOST:
            raise InputError(f"temperature is {short(temperature)}; it has to be 1/20 to 20")
        if {name: row.dtype.kind for name, row in held.items()} != KINDS:
            raise InputError(f"held has to be the rows {', '.join(KINDS)}")
        confidence, truth, target, shares = (held[name] for name in KINDS)
        if not confidence.shape == truth.shape == target.shape != (0,):
            raise InputError("held has to have one number for each row, in each of its rows")
        if shares.shape != (classes,) or not ((shares > 0) & (shares <= 1)).all():
            raise InputError(f"held.shares has to hold a share for each of {classes} classes")
        inside = (truth >= 0) & (truth <= confidence) & (confidence <= 1.001)
        if not (inside & (target >= 0) & (target < classes)).all():
            raise InputError("held has what is no probability, or no class")
        return cls(
            float(temperature), confidence.astype(np.float32), truth.astype(np.float32),
            target.astype(np.int32), shares.astype(np.float64),
        )  # fmt: skip


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """The places of at most ``most`` of ``count`` rows, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
