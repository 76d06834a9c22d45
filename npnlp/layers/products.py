"""The products with ``W_hh`` inside the loop over time, into memory that is used again.

A cell asks for ``recur(h) = h W_hh^T`` going forward and for ``back(delta) = delta W_hh`` coming
back, of all gates or of some. Before the first step of sequences that begin at zero nothing has to
be multiplied; coming back, nobody asks for the gradient of that zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from npnlp.backend import Array

ALL = slice(None)


#: ``product(x, gates=ALL)``; a backward one also takes ``out``. What it returns without ``out`` is
#: scratch, good until the next call.
Product = Callable[..., Array]


class Operand(NamedTuple):
    """The rows ``gates`` of ``W_hh`` were multiplied with ``memory[name]``.

    With ``before``, with that of the step before; ``delta[:, columns]`` is the product's gradient.
    """

    gates: slice = ALL
    columns: slice = ALL
    name: str = "hidden"
    before: bool = True


def forward_product(w_hh: Array, batch: int, xp: Any) -> Product:
    """``x W_hh[g]^T`` of each gate g, for up to ``batch`` rows: ``(G, b, H)``.

    A cell of one gate gets ``(b, H)``.
    """
    size = w_hh.shape[1]
    blocks = xp.ascontiguousarray(w_hh.reshape(-1, size, size).swapaxes(1, 2))
    scratch = xp.empty((len(blocks), batch, size), dtype=w_hh.dtype)
    only, whole, dot, matmul = blocks[0], scratch[0], xp.dot, xp.matmul
    room = whole

    def of_all(x: Array, gates: slice = ALL) -> Any:
        return matmul(x, blocks[gates], out=scratch[gates, : len(x)])

    def of_one(x: Array, gates: slice = ALL) -> Any:
        nonlocal room
        if len(room) != len(x):
            room = whole[: len(x)]
        return dot(x, only, room)

    return of_one if len(blocks) == 1 else of_all


def zero_product(w_hh: Array, xp: Any) -> Product:
    """The same of zeros, without multiplying: one row for all."""
    gates_of_cell = len(w_hh) // w_hh.shape[1]
    zero = xp.zeros((1, 1) if gates_of_cell == 1 else (gates_of_cell, 1, 1), dtype=w_hh.dtype)
    return lambda x, gates=ALL: zero[gates]


def backward_product(w_hh: Array, batch: int, xp: Any) -> Product:
    """``delta W_hh[gates]``, a sum over those gates, for up to ``batch`` rows: ``(b, H)``."""
    size = w_hh.shape[1]
    scratch = xp.empty((batch, size), dtype=w_hh.dtype)
    blocks, dot = w_hh.reshape(-1, size, size), xp.dot

    def back(x: Array, gates: slice = ALL, out: Array | None = None) -> Any:
        weight = w_hh if gates is ALL else blocks[gates].reshape(-1, size)
        return dot(x, weight, scratch[: len(x)] if out is None else out)

    return back


def nowhere(x: Array, gates: slice = ALL, out: Array | None = None) -> Any:
    """Stands for ``back`` where the state before was a constant zero: nothing is computed."""
    return 0
