"""A recurrent layer forward, a step at a time, keeping nothing but its states."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from npnlp.backend import Array
from npnlp.backend.tuned.cell import TunedCell
from npnlp.backend.tuned.loop import CELLS
from npnlp.backend.tuned.products import ALL, forward_product
from npnlp.layers.recurrent.recurrent import Recurrent

States = Sequence[Array]


class Steps:
    """The steps of ``cell`` for up to ``batch`` rows at once.

    (1) to (3) are those of ``layers/recurrent/through_time.py``. The first states are zero. Weights
    are those that the cell has when this is made.
    """

    def __init__(self, cell: Recurrent, batch: int) -> None:
        self.cell, self.xp = cell, cell.backend.xp
        gates, size = len(cell.gates), cell.hidden_size
        w_ih, w_hh, b_ih, b_hh = cell.weights
        self._tuned = tuned = tuned_cell(cell)
        weight, bias = tuned.arranged(w_ih), tuned.arranged(tuned.bias_of_input(b_ih, b_hh))
        self._gated = gates > 1
        self._weight = weight.reshape(gates, size, -1).swapaxes(1, 2) if self._gated else weight.T
        self._bias = bias.reshape(gates, 1, size) if self._gated else bias
        small = cell.backend.small_product
        self._recur = forward_product(tuned.arranged(w_hh), batch, self.xp, small)
        self._constants = tuned.constants(b_hh, batch)
        self._places = [tuned.arrays.index(name) for name in tuned.states]

    def project(self, x: Array) -> Array:
        """(1) of rows ``x (m, D)``: ``(m, H)``, or ``(G, m, H)`` of a cell with several gates."""
        u: Array = self.xp.matmul(x, self._weight)  # (1)
        u += self._bias
        return u

    def begin(self) -> States:
        """One row of each state, ``(1, H)``, for sequences to go on from."""
        zero = self.xp.zeros((1, self.cell.hidden_size), self.cell.dtype)
        return [zero] * len(self.cell.states)

    def step(self, u: Array, before: States, parents: Array | None = None) -> States:
        """(2) and (3): the states after input ``u``, which is used up; the hidden one is first.

        Row m goes on from row ``parents[m]`` of ``before``, or from row m. A row is multiplied
        once, however many go on from it.
        """
        recur, hidden = self._recur, before[0]
        product = recur(hidden)  # (2)
        if parents is not None:
            product = product.take(parents, axis=-2)
            if self._gated:  # a cell without gates sees the states before in the product alone
                before = [state.take(parents, axis=0) for state in before]
                hidden = before[0]

        def known(x: Array, gates: slice = ALL) -> Array:
            return product[gates] if x is hidden else recur(x, gates)

        now = [u, *(self.xp.empty(u.shape[-2:], u.dtype) for _ in self._tuned.arrays[1:])]
        self._tuned.step(now, u, before, known, *self._constants)  # (3)
        return [now[place] for place in self._places]


def tuned_cell(cell: Recurrent) -> TunedCell:
    """The cell as NumPy's loop has it."""
    return _tuned_cell(cell.kind(), cell.hidden_size)


@lru_cache(maxsize=64)
def _tuned_cell(kind: str, hidden_size: int) -> TunedCell:
    return CELLS[kind](hidden_size, np)


def projected(cell: Recurrent, x: Array) -> Array:
    """``W_ih x + b`` of every row of ``x (m, D)``, as the equations have it: ``(G, m, H)``."""
    w_ih, _, b_ih, b_hh = cell.weights
    sums = x @ w_ih.T + tuned_cell(cell).bias_of_input(b_ih, b_hh)
    gates = sums.reshape(len(x), -1, cell.hidden_size).swapaxes(0, 1)
    return cell.backend.xp.ascontiguousarray(gates)  # type: ignore[no-any-return]


def bias_in_step(cell: Recurrent) -> Array | None:
    """What the cell adds to the last gate's product in each step; None where it adds nothing."""
    return tuned_cell(cell).bias_in_step(cell.weights.b_hh)
