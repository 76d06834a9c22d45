"""The temporal order problem."""

from __future__ import annotations

import math

import numpy as np

from npnlp.backend import Random
from npnlp.lab.tasks.base import DISTRACTORS, Floats, Targets, Task, integers, one_hot

X, Y = 0, 1


class TemporalOrder(Task):
    """Which of X and Y came first, and which second?

    Input, one of 6 symbols: X, Y and 4 distractors. One relevant symbol stands at a step from
    ``T // 10`` to ``2 T // 10``, one at a step from ``5 T // 10`` to ``6 T // 10`` (counted from 0,
    both ends included), X or Y with equal chance; all other steps are distractors. The target is
    the class ``2 first + second`` (XX 0, XY 1, YX 2, YY 3), read at the last step. Without memory
    all four are as likely: ``ln 4``. Source: Hochreiter and Schmidhuber, "Long short-term memory",
    1997, experiment 6a.
    """

    name = "temporal_order"
    input_size = 2 + DISTRACTORS
    output_size = 4
    loss = "cross_entropy"
    read = "last"
    shortest = 10

    def draw(self, length: int, batch_size: int, random: Random) -> tuple[Floats, Targets]:
        """See :meth:`Task.draw`; targets ``(B,)``."""
        shape = (length, batch_size)
        symbols = 2 + integers(random.child("distractors"), shape, DISTRACTORS)
        relevant = integers(random.child("relevant"), (2, batch_size), 2)
        for place, tenths in enumerate((1, 5)):
            start, end = tenths * length // 10, (tenths + 1) * length // 10
            offsets = integers(random.child(f"place{place}"), (batch_size,), end - start + 1)
            symbols[start + offsets, np.arange(batch_size)] = relevant[place]
        return one_hot(symbols, self.input_size), 2 * relevant[0] + relevant[1]

    def baseline(self, length: int) -> float:
        """``ln 4``."""
        return math.log(self.output_size)
