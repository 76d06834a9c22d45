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
from npnlp.files.tensors import State
from npnlp.summary import summarized

#: The temperature stays within these factors of 1, also where all rows held out are right.
MOST = 20.0
#: What the tensors of a :class:`Calibration` are called in the file of a model.
PREFIX = "held."
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

    def tensors(self) -> State:
        """The arrays, by their names in a file."""
        return {PREFIX + name: getattr(self, name) for name in KINDS}

    @classmethod
    def of_file(cls, values: Any, tensors: Mapping[str, NDArray[Any]], classes: int) -> Self | None:
        """From a file's plain values and tensors, without their prefix; None where it has none.

        Raises :class:`InputError` for what does not belong there.
        """
        if values is None and not tensors:
            return None
        temperature: Any = values.get("temperature") if isinstance(values, Mapping) else None
        if type(temperature) not in (int, float) or not 1 / MOST <= temperature <= MOST:
            raise InputError(f"calibration is {short(values)}; it has to hold a temperature")
        if {name: tensor.dtype.kind for name, tensor in tensors.items()} != KINDS:
            raise InputError(f"the tensors {PREFIX}... have to be {', '.join(KINDS)}")
        confidence, truth, target, shares = (tensors[name] for name in KINDS)
        if confidence.ndim != 1 or not confidence.shape == truth.shape == target.shape != (0,):
            raise InputError(f"the tensors {PREFIX}... have to have one number for each row")
        if shares.shape != (classes,) or not ((shares > 0) & (shares <= 1)).all():
            raise InputError(f"{PREFIX}shares has to hold a share for each of {classes} classes")
        inside = (truth >= 0) & (truth <= confidence) & (confidence <= 1.001)
        if not (inside & (target >= 0) & (target < classes)).all():
            raise InputError(f"the tensors {PREFIX}... hold what is no probability, or no class")
        return cls(
            float(temperature), confidence.astype(np.float32), truth.astype(np.float32),
            target.astype(np.int32), shares.astype(np.float64),
        )  # fmt: skip
