"""The products with ``W_hh`` inside the loop over time, into memory that is used again.

A cell asks for ``recur(h) = h W_hh^T`` going forward and for ``back(delta) = delta W_hh`` coming
back, of all gates or of some. Before the first step of sequences that begin at zero nothing has to
be multiplied; coming back, nobody asks for the gradient of that zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from npnlp.backend.operations import Array
from npnlp.backend.tuned.blocks import by_columns, columns_at_once

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


def forward_product(w_hh: Array, batch: int, xp: Any, small: int) -> Product:
    """``x W_hh[g]^T`` of each gate g, for up to ``batch`` rows: ``(G, b, H)``.

    A cell of one gate gets ``(b, H)``. ``small`` is :attr:`Backend.small_product`.
    """
    size = w_hh.shape[1]
    blocks = xp.ascontiguousarray(w_hh.reshape(-1, size, size).swapaxes(1, 2))
    scratch = xp.empty(len(blocks) * batch * size, dtype=w_hh.dtype)
    width, enough = columns_at_once(batch, size, size, small)
    only, room, dot, matmul = blocks[0], scratch[:0], xp.dot, xp.matmul
    weights = results = by_columns(blocks, width)
    whole = scratch[: batch * size].reshape(batch, size)
    here = whole[:0]

    def of_all(x: Array, gates: slice = ALL) -> Any:
        nonlocal room, results
        if room.ndim != 3 or room.shape[1] != len(x):
            room = scratch[: len(blocks) * len(x) * size].reshape(len(blocks), len(x), size)
            results = by_columns(room, width)
        if len(x) <= enough:
            return matmul(x, blocks[gates], out=room[gates])
        matmul(x, weights[gates], out=results[gates])
        return room[gates]

    def of_one(x: Array, gates: slice = ALL) -> Any:
        nonlocal here
        if len(here) != len(x):
            if len(x) > enough:
                return of_all(x)[0]
            here = whole[: len(x)]
        return dot(x, only, here)

    return of_one if len(blocks) == 1 else of_all


def zeros_before(w_hh: Array, batch: int, states: int, xp: Any) -> tuple[list[Array], Product]:
    """States of zeros for the first step, and their product without multiplying."""
    size = w_hh.shape[1]
    zero = xp.zeros((len(w_hh) // size, batch, size), dtype=w_hh.dtype)
    state = xp.zeros((batch, size), dtype=w_hh.dtype)
    return [state] * states, lambda x, gates=ALL: zero[0] if len(zero) == 1 else zero[gates]


def backward_product(w_hh: Array, batch: int, xp: Any, small: int) -> Product:
    """``delta W_hh[gates]``, a sum over those gates, for up to ``batch`` rows: ``(b, H)``."""
    rows, size = w_hh.shape
    scratch = xp.empty((batch, size), dtype=w_hh.dtype)
    blocks, dot, matmul = w_hh.reshape(-1, size, size), xp.dot, xp.matmul
    width, enough = columns_at_once(batch, rows, size, small)

    def back(x: Array, gates: slice = ALL, out: Array | None = None) -> Any:
        y = scratch[: len(x)] if out is None else out
        weight = w_hh if gates is ALL else blocks[gates].reshape(-1, size)
        if len(x) > enough:
            matmul(x, by_columns(weight, width), out=by_columns(y, width))
            return y
        # x of some gates are columns of a larger array, which dot would copy first.
        return dot(x, weight, y) if gates is ALL else matmul(x, weight, out=y)

    return back


def nowhere(x: Array, gates: slice = ALL, out: Array | None = None) -> Any:
    """Stands for ``back`` where the state before was a constant zero: nothing is computed."""
    return 0
