"""What is said of a name: the classes, or why there is no answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError, short

#: What is wrong with a name of which the model makes no finite number.
NOT_FINITE = "probabilities that are not finite; leave it out, or use another model"


@dataclass(frozen=True, repr=False)
class Prediction:
    """The most probable nationalities of a name, best first, as (nationality, probability).

    ``top`` is empty where there is no answer, and ``reason`` says why; ``labels`` is the set of
    them where one was asked for, the most probable first.
    """

    surname: str
    top: tuple[tuple[str, float], ...]
    reason: str = ""
    labels: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        best = "top=()"
        if self.reason:
            best = f"reason={short(self.reason)}"
        elif self.top:
            best = f"nationality={short(self.nationality)}, probability={self.probability:.3f}"
        return f"{type(self).__name__}(surname={short(self.surname)}, {best})"

    @property
    def nationality(self) -> str:
        """The most probable one."""
        return self.top[0][0]

    @property
    def probability(self) -> float:
        """Its probability."""
        return self.top[0][1]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; ``reason`` and ``set`` where there are any."""
        nationality, probability = self.top[0] if self.top else (None, None)
        values: dict[str, Any] = {
            "surname": self.surname,
            "nationality": nationality,
            "probability": probability,
            "top": [{"nationality": name, "probability": p} for name, p in self.top],
        }
        if self.reason:
            values["reason"] = self.reason
        if self.labels is not None:
            values["set"] = list(self.labels)
        return values


def require_finite(probabilities: NDArray[Any], surnames: Sequence[str]) -> None:
    """Raise :class:`InputError`, naming the first row of ``(n, k)`` that is not finite."""
    for place in not_finite(probabilities):
        raise InputError(f"name {place + 1}, {short(surnames[place])}, has {NOT_FINITE}")


def not_finite(probabilities: NDArray[Any]) -> list[int]:
    """The rows of ``(n, k)`` that hold a number that is not finite."""
    if math.isfinite(np.vdot(probabilities, probabilities)):  # the quickest question
        return []
    places: list[int] = np.flatnonzero(~np.isfinite(probabilities).all(axis=1)).tolist()
    return places
