"""When to answer: thresholds and sets of classes, found on the rows held out.

    threshold    the least t at which, of the rows with a probability of at least t, a share of at
                 least ``precision`` was right; 0 where that is so of all rows
    set          all classes c with p_c >= 1 - q, and the most probable one; with the score
                 s_i = 0 where row i was right and 1 - p_{y_i} elsewhere, q is the k-th smallest
                 of the n scores, k = ceil((n + 1) level)

A set holds the truth of a new name of the same population with a probability of at least
``level``. Source: Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2005;
Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers", 2019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npnlp.checks import require_flag, require_fraction
from npnlp.classifier.calibration import Calibration
from npnlp.errors import InputError
from npnlp.summary import summarized

#: Thresholds and bounds are lowered by this factor. They are probabilities of rows held out, and a
#: name's last digits depend on the names beside it: the same name again shall not fall below.
BELOW = 1 - 1e-5
LITTLE = "too little probability"
UNREAD = "no character that training has seen"
UNLIKE = "unlike the names of training"


@dataclass(frozen=True)
class Decision:
    """What it takes for an answer, and whether sets are wanted.

    ``min_probability`` or ``precision``, of which the larger threshold counts; ``unread`` and
    ``unlike``: no answer to names of which no character is known, or that are unlike those of
    training. ``sets`` is the level of the sets; with ``by_class`` each class has a bound of its
    own, where enough rows of it were held out.
    """

    min_probability: float = 0.0
    precision: float | None = None
    sets: float | None = None
    by_class: bool = False
    unread: bool = False
    unlike: bool = False

    def __post_init__(self) -> None:
        require_fraction("min_probability", self.min_probability)
        for name in ("precision", "sets"):
            if getattr(self, name) is not None:
                require_fraction(name, getattr(self, name))
        for name in ("by_class", "unread", "unlike"):
            require_flag(name, getattr(self, name))
        if self.by_class and self.sets is None:
            raise InputError("by_class is that of sets, and there are none; give a level")

    @property
    def abstains(self) -> bool:
        """Whether answers are held back by what was asked for."""
        return bool(self.min_probability or self.precision or self.unlike)

    def least(self, calibration: Calibration | None) -> float:
        """The probability that an answer has to have."""
        if self.precision is None:
            return self.min_probability
        return max(self.min_probability, BELOW * threshold(_held(calibration), self.precision))

    def bounds(self, held: Calibration | None) -> NDArray[np.float64]:
        """The probability ``(C,)`` from which a class is in a set."""
        assert self.sets is not None
        return BELOW * (1 - quantiles(_held(held), self.sets, self.by_class))

    def sets_of(self, probabilities: NDArray[Any], held: Calibration | None) -> list[list[int]]:
        """The classes of each set of ``probabilities (n, C)``, the most probable first."""
        bounds = self.bounds(held)
        order = np.argsort(-probabilities, axis=1, kind="stable")
        inside = np.take_along_axis(probabilities >= bounds.astype(probabilities.dtype), order, 1)
        inside[:, 0] = True
        ends = np.cumsum(inside.sum(axis=1))[:-1]
        return [part.tolist() for part in np.split(order[inside], ends)] if len(order) else []


#: Every name gets an answer.
ALL = Decision()


@summarized
class Decided(NamedTuple):
    """The best classes of n names and their probabilities ``(n, k)``; the rest is by the place.

    ``reasons`` are those for no answer; ``sets`` the classes of each set, where they are wanted.
    """

    classes: NDArray[Any]
    probabilities: NDArray[Any]
    reasons: dict[int, str]
    sets: list[list[int]] | None


def _held(calibration: Calibration | None) -> Calibration:
    if calibration is None:
        raise InputError(
            "the model has no rows held out, which precision and sets are found by; train it with "
            "at least 100 validation rows, or give min_probability"
        )
    return calibration


def threshold(held: Calibration, precision: float) -> float:
    """The least probability whose answers had this precision.

    Raises :class:`InputError` where none had.
    """
    order = np.argsort(-held.confidence, kind="stable")
    confidence, right = held.confidence[order], held.right[order]
    reached = np.cumsum(right) / np.arange(1, len(right) + 1)
    last = np.append(confidence[1:] < confidence[:-1], True)  # rows as probable go together
    good = np.flatnonzero(last & (reached >= precision))
    if not len(good):
        raise InputError(
            f"precision is {precision}, which no threshold gave on the {len(right):,} rows held "
            f"out; the best was {reached[last].max():.4f}"
        )
    return float(confidence[good[-1]]) if good[-1] < len(right) - 1 else 0.0


def quantiles(held: Calibration, level: float, by_class: bool = False) -> NDArray[np.float64]:
    """q for each class ``(C,)``; all are the same unless ``by_class``.

    A class of which too few rows were held out, fewer than ``level / (1 - level)``, has the q of
    all rows.
    """
    scores = np.where(held.right, 0.0, 1.0 - held.truth.astype(np.float64))
    found = np.full(len(held.shares), _quantile(scores, level))
    for label in range(len(found)) if by_class else ():
        own = scores[held.target == label]
        if _rank(len(own), level) <= len(own):
            found[label] = _quantile(own, level)
    return found


def _rank(rows: int, level: float) -> int:
    """k; without the rounding of the product, which may lie just above a whole number."""
    return max(1, math.ceil(round((rows + 1) * level, 9)))


def _quantile(scores: NDArray[np.float64], level: float) -> float:
    k = _rank(len(scores), level)
    return 1.0 if k > len(scores) else float(np.sort(scores)[k - 1])
