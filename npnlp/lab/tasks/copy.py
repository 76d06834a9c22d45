"""The copy memory problem."""

from __future__ import annotations

import math

import numpy as np

from npnlp.backend import Random
from npnlp.lab.tasks.base import Floats, Targets, Task, integers, one_hot

SYMBOLS = 8
#: How many symbols there are to remember.
ITEMS = 10
BLANK, DELIMITER = SYMBOLS, SYMBOLS + 1


class Copy(Task):
    """Say ten symbols again, T steps after the last of them was shown.

    ``T + 20`` steps. Input, one of 10 symbols (8 to remember, a blank, a delimiter): the 10 items,
    ``T - 1`` blanks, the delimiter, 10 blanks. Target, one of 9 classes at each step (8 symbols,
    blank): ``T + 10`` blanks, then the 10 items in order. Without memory the blanks are free, since
    the delimiter announces their end, and each item costs ``ln 8``: ``10 ln 8 / (T + 20)`` a step.
    Source: Hochreiter and Schmidhuber, 1997; in this form Arjovsky, Shah and Bengio, "Unitary
    evolution recurrent neural networks", 2016.
    """

    name = "copy"
    input_size = SYMBOLS + 2
    output_size = SYMBOLS + 1
    loss = "cross_entropy"
    read = "each"
    shortest = 1

    def steps(self, length: int) -> int:
        """``T + 20``."""
        return length + 2 * ITEMS

    def draw(self, length: int, batch_size: int, random: Random) -> tuple[Floats, Targets]:
        """See :meth:`Task.draw`; targets ``(T + 20, B)``."""
        items = integers(random.child("items"), (ITEMS, batch_size), SYMBOLS)
        symbols = np.full((self.steps(length), batch_size), BLANK)
        targets = symbols.copy()
        symbols[:ITEMS] = items
        symbols[ITEMS + length - 1] = DELIMITER
        targets[-ITEMS:] = items
        return one_hot(symbols, self.input_size), targets

    def baseline(self, length: int) -> float:
        """``10 ln 8 / (T + 20)``."""
        return ITEMS * math.log(SYMBOLS) / self.steps(length)
