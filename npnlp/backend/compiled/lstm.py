"""The two loops over time of :class:`npnlp.layers.lstm.LSTM`, compiled; see ``gru.py``."""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.elementwise import add, columns, copy, logistic, tanh
from npnlp.backend.compiled.kernel import kernel
from npnlp.backend.compiled.meeting import meet
from npnlp.backend.compiled.products import add_product, panels_of, room_for


@kernel
def forward(
    gates: Array, cell: Array, tanh_cell: Array, hidden: Array, w_hh_t: Array, initial: Array,
    initial_cell: Array, sizes: Array, arrivals: Array, threads: int, low: int, high: int,
) -> None:  # fmt: skip
    """Fill ``gates (4, N, H)``, ``u`` on entry, and what follows ``(N, H)``.

    ``w_hh_t (H, 4 H)`` is transposed; the initial states ``(B, H)``, or no rows for zeros.
    """
    own = columns(low, high)
    panels = panels_of(w_hh_t, 4, low, high)
    rest, known = room_for(sizes[0], panels), len(initial) > 0
    zeros = np.zeros((0 if known else sizes[0], hidden.shape[1]), dtype=hidden.dtype)
    h_before, c_before = (initial, initial_cell) if known else (zeros, zeros)
    start = 0
    for t in range(len(sizes)):
        end = start + sizes[t]
        i, f = gates[0, start:end], gates[1, start:end]
        g, o = gates[2, start:end], gates[3, start:end]
        c, tanh_c, h = cell[start:end], tanh_cell[start:end], hidden[start:end]
        if known:
            for k in range(4):  # (1)
                add_product(h_before[: len(h)], panels[k], rest, gates[k, start:end], low, high)
        for b in range(len(h)):
            for j in own:
                i[b, j] = logistic(i[b, j])  # (2)
            for j in own:
                f[b, j] = logistic(f[b, j])
            for j in own:
                g[b, j] = tanh(g[b, j])
            for j in own:
                o[b, j] = logistic(o[b, j])
            for j in own:
                c[b, j] = f[b, j] * c_before[b, j] + i[b, j] * g[b, j]  # (3)
            for j in own:
                tanh_c[b, j] = tanh(c[b, j])  # (4)
            for j in own:
                h[b, j] = o[b, j] * tanh_c[b, j]  # (5)
        h_before, c_before, start, known = h, c, end, True
        meet(arrivals, threads, t)


@kernel
def backward(
    gates: Array, cell: Array, tanh_cell: Array, hidden: Array, w_hh: Array, d_hidden: Array,
    d: Array, d_cell: Array, delta: Array, kept: Array, kept_cell: Array, sizes: Array,
    has_initial: bool, arrivals: Array, threads: int, low: int, high: int,
) -> None:  # fmt: skip
    """``delta (N, 4 H)`` in the order i, f, g, o, from the last step down; see the layer."""
    own = columns(low, high)
    panels = panels_of(w_hh, 1, low, high)
    rest, end, units = room_for(sizes[0], panels), len(hidden), np.uint64(hidden.shape[1])
    two, three = units + units, units + units + units
    for back in range(len(sizes)):
        size = sizes[len(sizes) - 1 - back]
        start = end - size
        i, f = gates[0, start:end], gates[1, start:end]
        g, o = gates[2, start:end], gates[3, start:end]
        c, tanh_c, h = cell[start:end], tanh_cell[start:end], hidden[start:end]
        d_h, d_c, out = d[:size], d_cell[:size], delta[start:end]
        if len(d_hidden):
            add(d_hidden[start:end], d_h, own)
        if len(kept):
            copy(d_h, kept[start:end], own)
            copy(d_c, kept_cell[start:end], own)
        for b in range(size):
            for j in own:  # undoes (5), (2): a_o
                out[b, three + j] = d_h[b, j] * h[b, j] * (1 - o[b, j])
            for j in own:  # undoes (5), (4)
                d_c[b, j] += d_h[b, j] * (o[b, j] - h[b, j] * tanh_c[b, j])
            for j in own:  # undoes (3), (2): a_i
                out[b, j] = d_c[b, j] * i[b, j] * g[b, j] * (1 - i[b, j])
            for j in own:  # a_f; c - i g is f c_before
                out[b, units + j] = (
                    d_c[b, j] * (c[b, j] - i[b, j] * g[b, j]) * (1 - f[b, j])
                )  # fmt: skip
            for j in own:  # a_g
                out[b, two + j] = d_c[b, j] * i[b, j] * (1 - g[b, j] * g[b, j])
            for j in own:  # undoes (3): c_before
                d_c[b, j] *= f[b, j]
            for j in own:  # for what undoes (1)
                d_h[b, j] = 0
        meet(arrivals, threads, back)
        if start > 0 or has_initial:
            add_product(out, panels[0], rest, d_h, low, high)  # undoes (1)
        end = start
