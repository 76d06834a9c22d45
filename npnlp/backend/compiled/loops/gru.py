"""Both passes of :class:`npnlp.layers.recurrent.gru.GRU`, compiled; see ``elman.py``."""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.loops.around import add_up, begin, finish, look_up, rows_before
from npnlp.backend.compiled.panels import panels_of, room_for
from npnlp.backend.compiled.products import BLOCK, add_apart
from npnlp.backend.compiled.threads.meeting import meet
from npnlp.backend.compiled.threads.parts import part_of
from npnlp.backend.compiled.vectors.elementwise import add, columns, copy, logistic_of, tanh_of
from npnlp.backend.compiled.vectors.kernel import kernel
from npnlp.backend.compiled.vectors.vectors import Number, rowwise


def step(r: Number, z: Number, n: Number, q: Number, h_before: Number) -> tuple[Number, ...]:
    """The gates from their pre-activations, and h."""
    r, z = logistic_of(r), logistic_of(z)  # (2)
    n = tanh_of(n + r * q)  # (4)
    return r, z, n, n + z * (h_before - n)  # (5)


open_gates = rowwise(step)


@rowwise
def close_gates(
    r: Number, z: Number, n: Number, q: Number, h_before: Number, d_h: Number
) -> tuple[Number, ...]:
    """The gradients of a_r, a_z, q and a_n, and of h_before but for the path through ``W_hh``."""
    rest = d_h * (1 - z)
    a_n = rest * (1 - n * n)  # undoes (5), (4)
    a_z = rest * z * (h_before - n)  # undoes (5), (2)
    d_q = a_n * r  # undoes (4), (3)
    a_r = d_q * q * (1 - r)  # undoes (4), (2)
    return a_r, a_z, d_q, a_n, d_h * z  # undoes (5)


@kernel
def forward(
    x: Array, w_ih_t: Array, bias: Array, tokens: Array, table: Array, gates: Array,
    product: Array, hidden: Array, w_hh_t: Array, b_n: Array, initial: Array, sizes: Array,
    arrivals: Array, threads: int, low: int, high: int,
) -> None:  # fmt: skip
    """Fill ``gates (3, N, H)``, ``product`` and ``hidden`` ``(N, H)``.

    ``table (3, V, H)``, ``tokens`` and weights are as in ``elman.py``;
    ``initial (B, H)``, or no rows for zeros.
    """
    top, bottom, left, right, meeting = part_of(sizes, hidden, threads, low, high)
    begin(x, w_ih_t, bias, tokens, table, arrivals, threads, meeting, True, low, high)  # (1) u
    own = columns(left, right)
    panels = panels_of(w_hh_t, 3, left, right)
    rest, known = room_for(sizes[0], panels), len(initial) > 0
    before = initial if known else np.zeros((sizes[0], hidden.shape[1]), dtype=hidden.dtype)
    start = 0
    for t in range(len(sizes)):
        end = start + sizes[t]
        own_end = min(start + bottom, end)
        for first in range(start + top, own_end, BLOCK):  # rows that stay in the cache
            last = min(first + BLOCK, own_end)
            r, z, n = gates[0, first:last], gates[1, first:last], gates[2, first:last]
            q, h_before = product[first:last], before[first - start : last - start]
            for k in range(3):
                look_up(table[k], tokens[first:last], gates[k, first:last], own)
            for b in range(len(q)):
                for j in own:
                    q[b, j] = b_n[j]  # (3), with its part of (1)
            if known:
                add_apart(h_before, panels[0], rest, r, left, right)  # (1)
                add_apart(h_before, panels[1], rest, z, left, right)
                add_apart(h_before, panels[2], rest, q, left, right)
            open_gates((r, z, n, q, h_before), (r, z, n, hidden[first:last]), left, right)
        before, start, known = hidden[start:end], end, True
        meet(arrivals, meeting, t)


@kernel
def backward(
    gates: Array, product: Array, hidden: Array, w_hh: Array, d_hidden: Array, d: Array,
    delta: Array, kept: Array, sizes: Array, previous: Array, initial: Array, d_w_hh: Array,
    x: Array, tokens: Array, d_table: Array, w_ih: Array, d_w_ih: Array, d_b_ih: Array,
    d_b_hh: Array, dx: Array, arrivals: Array, threads: int, low: int, high: int,
) -> None:  # fmt: skip
    """Fill ``delta (N, 4 H)``, in the order r, z, q, n, from the last step down."""
    top, bottom, left, right, meeting = part_of(sizes, hidden, threads, low, high)
    own = columns(left, right)
    panels = panels_of(w_hh, 1, left, right)
    rest, end, units = room_for(sizes[0], panels), len(hidden), hidden.shape[1]
    for back in range(len(sizes)):
        size = sizes[len(sizes) - 1 - back]
        start = end - size
        first, last = start + min(top, size), start + min(bottom, size)
        some = slice(first - start, last - start)
        r, z, n = gates[0, first:last], gates[1, first:last], gates[2, first:last]
        q, out, d_t = product[first:last], delta[first:last], d[some]
        h_before = rows_before(hidden, initial, sizes, start, back)[some]
        if len(d_hidden):
            add(d_hidden[first:last], d_t, own)
        if len(kept):
            copy(d_t, kept[first:last], own)
        close_gates(
            (r, z, n, q, h_before, d_t),
            (out[:, :units], out[:, units : 2 * units], out[:, 2 * units : 3 * units],
             out[:, 3 * units :], d_t),
            left, right,
        )  # fmt: skip
        if meeting == threads:
            add_up(out, tokens[first:last], d_table, units, low, high)
        meet(arrivals, meeting, back)
        if start > 0 or len(initial):
            add_apart(out[:, : 3 * units], panels[0], rest, d_t, left, right)  # undoes (1)
        end = start
    finish(
        delta, hidden, sizes, previous, initial, d_w_hh, x, tokens, d_table, w_ih, d_w_ih, d_b_ih,
        d_b_hh, dx, arrivals, threads, meeting, low, high,
    )  # fmt: skip
