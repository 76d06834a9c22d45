"""Recall of the first symbol."""

from __future__ import annotations

import math

from npnlp.backend import Random
from npnlp.lab.tasks.base import DISTRACTORS, Floats, Targets, Task, integers, one_hot

SYMBOLS = 8


class FirstToken(Task):
    """Say the first symbol again after ``T - 1`` distractors.

    Input, one of 12 symbols: at step 0 one of the first 8, at all others one of 4 distractors. The
    target is the first symbol, read at the last step. Without memory all are as likely: ``ln 8``.
    The plainest case of latching: Bengio, Simard and Frasconi, "Learning long-term dependencies
    with gradient descent is difficult", 1994.
    """

    name = "first_token"
    input_size = SYMBOLS + DISTRACTORS
    output_size = SYMBOLS
    loss = "cross_entropy"
    read = "last"
    shortest = 1

    def draw(self, length: int, batch_size: int, random: Random) -> tuple[Floats, Targets]:
        """See :meth:`Task.draw`; targets ``(B,)``."""
        shape = (length, batch_size)
        symbols = SYMBOLS + integers(random.child("distractors"), shape, DISTRACTORS)
        place = self.place(length)
        symbols[place] = integers(random.child("first"), (batch_size,), SYMBOLS)
        return one_hot(symbols, self.input_size), symbols[place].copy()

    def place(self, length: int) -> int:
        """The step of the symbol to remember: 0."""
        return 0

    def baseline(self, length: int) -> float:
        """``ln 8``."""
        return math.log(SYMBOLS)
