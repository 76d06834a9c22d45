"""What all tasks share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Random
from npnlp.checks import require_whole

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
#: Numbers ``(B, 1)`` for the loss "mse"; classes ``(B,)`` or, read at each step, ``(steps, B)``.
Targets = NDArray[Any]

#: Symbols that mean nothing and stand where nothing else does.
DISTRACTORS = 4


class Task(ABC):
    """Sequences of length T with their targets, drawn from a stream.

    ``input_size`` is D, ``output_size`` is C; ``loss`` is "mse" or "cross_entropy"; the answer is
    ``read`` at the "last" step or at "each". ``shortest`` is the smallest T.
    """

    name: ClassVar[str]
    input_size: ClassVar[int]
    output_size: ClassVar[int]
    loss: ClassVar[str]
    read: ClassVar[str]
    shortest: ClassVar[int]

    def batch(self, length: int, batch_size: int, random: Random) -> tuple[Floats, Targets]:
        """``B`` sequences ``(steps(T), B, D)`` and their targets, a function of the stream alone.

        Raises :class:`InputError` for a length below ``shortest`` or a batch below 1.
        """
        self.require(length)
        require_whole("batch_size", batch_size)
        return self.draw(length, batch_size, random)

    def require(self, length: int) -> None:
        """Raise :class:`InputError` for a length below ``shortest``."""
        require_whole(f"length of task {self.name}", length, self.shortest)

    @abstractmethod
    def draw(self, length: int, batch_size: int, random: Random) -> tuple[Floats, Targets]:
        """See :meth:`batch`; the sizes are good."""

    @abstractmethod
    def baseline(self, length: int) -> float:
        """The least expected loss of a predictor that has forgotten what it should remember."""

    def steps(self, length: int) -> int:
        """How many steps a sequence of length T has."""
        return length

    def solved(self, length: int, loss: float) -> bool:
        """Whether the loss is at most 10 % of the baseline.

        Guessing costs the whole baseline, so nine tenths of what there is to remember is there.
        """
        return loss <= 0.1 * self.baseline(length)


def integers(random: Random, shape: tuple[int, ...], count: int) -> Integers:
    """Whole numbers uniform in ``[0, count)``."""
    return (random.uniform(shape) * count).astype(np.int64)


def one_hot(symbols: Integers, count: int) -> Floats:
    """Symbols ``(...)`` as rows of the identity ``(..., count)``."""
    rows: Floats = np.eye(count)[symbols]
    return rows
