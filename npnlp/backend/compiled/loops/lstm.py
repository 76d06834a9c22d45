"""Both passes of :class:`npnlp.layers.recurrent.lstm.LSTM`, compiled; see ``elman.py``."""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.loops.around import add_up, begin, finish, look_up, rows_before
from npnlp.backend.compiled.panels import panels_of, room_for
from npnlp.backend.compiled.products import BLOCK, add_apart, add_product
from npnlp.backend.compiled.threads.meeting import meet
from npnlp.backend.compiled.threads.parts import part_of
from npnlp.backend.compiled.vectors.elementwise import add, columns, copy, logistic_of, tanh_of
from npnlp.backend.compiled.vectors.kernel import kernel
from npnlp.backend.compiled.vectors.vectors import Number, rowwise


def step(i: Number, f: Number, g: Number, o: Number, c_before: Number) -> tuple[Number, ...]:
    """The gates from their pre-activations, and c, tanh c and h."""
    i, f, g, o = logistic_of(i), logistic_of(f), tanh_of(g), logistic_of(o)  # (2)
    c = f * c_before + i * g  # (3)
    tanh_c = tanh_of(c)  # (4)
    return i, f, g, o, c, tanh_c, o * tanh_c  # (5)


open_gates = rowwise(step)


@rowwise
def close_gates(
    i: Number, f: Number, g: Number, o: Number, c_before: Number, tanh_c: Number, h: Number,
    d_h: Number, d_c: Number,
) -> tuple[Number | float, ...]:  # fmt: skip
    """``dL/da`` of the gates, ``dL/dc_before``, and zeros, to which the undoing of (1) adds."""
    a_o = d_h * h * (1 - o)  # undoes (5), (2)
    d_c = d_c + d_h * (o - h * tanh_c)  # undoes (5), (4)
    d_c_before = d_c * f  # undoes (3)
    a_i = d_c * i * g * (1 - i)  # undoes (3), (2)
    a_f = d_c_before * c_before * (1 - f)
    a_g = d_c * i * (1 - g * g)
    return a_i, a_f, a_g, a_o, d_c_before, 0.0


@kernel
def forward(
    x: Array, w_ih_t: Array, bias: Array, tokens: Array, table: Array, gates: Array, cell: Array,
    tanh_cell: Array, hidden: Array, w_hh_t: Array, initial: Array, initial_cell: Array,
    sizes: Array, arrivals: Array, threads: int, low: int, high: int,
) -> None:  # fmt: skip
    """Fill ``gates (4, N, H)``, and ``cell``, ``tanh_cell`` and ``hidden``, each ``(N, H)``.

    ``table (4, V, H)``, ``tokens`` and weights are as in ``elman.py``; the initial
    states ``(B, H)``, or no rows for zeros.
    """
    top, bottom, left, right, meeting = part_of(sizes, hidden, threads, low, high)
    begin(x, w_ih_t, bias, tokens, table, arrivals, threads, meeting, True, low, high)  # (1) u
    own = columns(left, right)
    panels = panels_of(w_hh_t, 4, left, right)
    rest, known = room_for(sizes[0], panels), len(initial) > 0
    zeros = np.zeros((0 if known else sizes[0], hidden.shape[1]), dtype=hidden.dtype)
    h_before, c_before = (initial, initial_cell) if known else (zeros, zeros)
    start = 0
    for t in range(len(sizes)):
        end = start + sizes[t]
        own_end = min(start + bottom, end)
        for first in range(start + top, own_end, BLOCK):  # rows that stay in the cache
            last = min(first + BLOCK, own_end)
            i, f, g, o = (gates[0, first:last], gates[1, first:last], gates[2, first:last],
                          gates[3, first:last])  # fmt: skip
            some = slice(first - start, last - start)
            for k in range(4):
                look_up(table[k], tokens[first:last], gates[k, first:last], own)
                if known:  # (1)
                    add_apart(h_before[some], panels[k], rest, gates[k, first:last], left, right)
            open_gates(
                (i, f, g, o, c_before[some]),
                (i, f, g, o, cell[first:last], tanh_cell[first:last], hidden[first:last]),
                left, right,
            )  # fmt: skip
        h_before, c_before = hidden[start:end], cell[start:end]
        start, known = end, True
        meet(arrivals, meeting, t)


@kernel
def backward(
    gates: Array, cell: Array, tanh_cell: Array, hidden: Array, w_hh: Array, d_hidden: Array,
    d: Array, d_cell: Array, delta: Array, kept: Array, kept_cell: Array, sizes: Array,
    previous: Array, initial: Array, initial_cell: Array, d_w_hh: Array, x: Array, tokens: Array,
    d_table: Array, w_ih: Array, d_w_ih: Array, d_b_ih: Array, d_b_hh: Array, dx: Array,
    arrivals: Array, threads: int, low: int, high: int,
) -> None:  # fmt: skip
    """Fill ``delta (N, 4 H)``, in the order i, f, g, o, from the last step down."""
    top, bottom, left, right, meeting = part_of(sizes, hidden, threads, low, high)
    own = columns(left, right)
    panels = panels_of(w_hh, 1, left, right)
    rest, end, units = room_for(sizes[0], panels), len(hidden), hidden.shape[1]
    for back in range(len(sizes)):
        size = sizes[len(sizes) - 1 - back]
        start = end - size
        first, last = start + min(top, size), start + min(bottom, size)
        i, f = gates[0, first:last], gates[1, first:last]
        g, o = gates[2, first:last], gates[3, first:last]
        tanh_c, h, out = tanh_cell[first:last], hidden[first:last], delta[first:last]
        some = slice(first - start, last - start)
        c_before = rows_before(cell, initial_cell, sizes, start, back)[some]
        d_h, d_c = d[some], d_cell[some]
        if len(d_hidden):
            add(d_hidden[first:last], d_h, own)
        if len(kept):
            copy(d_h, kept[first:last], own)
            copy(d_c, kept_cell[first:last], own)
        close_gates(
            (i, f, g, o, c_before, tanh_c, h, d_h, d_c),
            (out[:, :units], out[:, units : 2 * units], out[:, 2 * units : 3 * units],
             out[:, 3 * units :], d_c, d_h),
            left, right,
        )  # fmt: skip
        if meeting == threads:
            add_up(out, tokens[first:last], d_table, units, low, high)
        meet(arrivals, meeting, back)
        if start > 0 or len(initial):
            add_product(out, panels[0], rest, d_h, left, right)  # undoes (1)
        end = start
    finish(
        delta, hidden, sizes, previous, initial, d_w_hh, x, tokens, d_table, w_ih, d_w_ih, d_b_ih,
        d_b_hh, dx, arrivals, threads, meeting, low, high,
    )  # fmt: skip
