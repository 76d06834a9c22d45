"""The matrix products with ``W_hh`` inside the loop over time, into reused memory.

A cell calls ``recur(h) = h W_hh^T`` in the forward pass and ``back(delta) = delta W_hh`` in the
backward pass, for all gates or some. With initial states of zero the first step needs neither.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from npnlp.backend.operations import Array
from npnlp.backend.tuned.blocks import by_columns, columns_at_once

ALL = slice(None)

#: ``product(x, gates=ALL)``; a backward one also takes ``out``. A result without ``out`` is valid
#: until the next call.
Product = Callable[..., Array]


class Operand(NamedTuple):
    """The array ``name``, which the rows ``gates`` of ``W_hh`` are multiplied with.

    With ``before``, that of the step before. ``delta[:, columns]`` is the product's gradient.
    """

    gates: slice = ALL
    columns: slice = ALL
    name: str = "hidden"
    before: bool = True


def forward_product(w_hh: Array, batch: int, xp: Any, small: int) -> Product:
    """``x W_hh[g]^T`` of each gate g, for up to ``batch`` rows: ``(G, b, H)``.

    For a cell of one gate ``(b, H)``. ``small`` is :attr:`Backend.small_product`.
    """
    size = w_hh.shape[1]
    blocks = xp.ascontiguousarray(w_hh.reshape(-1, size, size).swapaxes(1, 2))
    scratch = xp.empty(len(blocks) * batch * size, dtype=w_hh.dtype)
    width, enough = columns_at_once(batch, size, size, small)
    only, room, dot, matmul = blocks[0], scratch[:0], xp.dot, xp.matmul
    weights = by_columns(blocks, width)
    whole = scratch[: batch * size].reshape(batch, size)
    here = whole[:0]

    def of_all(x: Array, gates: slice = ALL) -> Any:
        nonlocal room
        if room.ndim != 3 or room.shape[1] != len(x):
            room = scratch[: len(blocks) * len(x) * size].reshape(len(blocks), len(x), size)
        if len(x) <= enough:
            return matmul(x, blocks[gates], out=room[gates])
        matmul(x, weights[gates], out=by_columns(room, width)[gates])
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
    """States of zeros for the first step, and a product that returns zeros."""
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
        # For some gates x is not contiguous, and dot would copy it first.
        return dot(x, weight, y) if gates is ALL else matmul(x, weight, out=y)

    return back


def nowhere(x: Array, gates: slice = ALL, out: Array | None = None) -> Any:
    """Replaces ``back`` where the state before is a constant zero and needs no gradient."""
    return 0
