"""The two loops over time of :class:`npnlp.layers.lstm.LSTM`, compiled; see ``gru.py``."""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.elementwise import add, copy, logistic_of_half, tanh
from npnlp.backend.compiled.kernel import kernel
from npnlp.backend.compiled.products import multiply


@kernel
def forward(
    gates: Array, cell: Array, tanh_cell: Array, hidden: Array, w_hh_t: Array,
    parts: Array, initial: Array, initial_cell: Array, sizes: Array,
) -> None:  # fmt: skip
    """Fill ``gates (4, N, H)``, ``u`` on entry, and what follows ``(N, H)``.

    ``w_hh_t (H, 4 H)`` is transposed; the initial states ``(B, H)``, or no rows for zeros.
    """
    batch, units = sizes[0], hidden.shape[1]
    sums = np.zeros((batch, 4 * units), dtype=hidden.dtype)
    known = len(initial) > 0
    zeros = np.zeros((0 if known else batch, units), dtype=hidden.dtype)
    h_before, c_before = (initial, initial_cell) if known else (zeros, zeros)
    start = 0
    for size in sizes:
        end, p = start + size, sums[:size]
        i, f = gates[0, start:end], gates[1, start:end]
        g, o = gates[2, start:end], gates[3, start:end]
        c, tanh_c, h = cell[start:end], tanh_cell[start:end], hidden[start:end]
        if known:
            multiply(h_before[:size], w_hh_t, parts, p)  # (1)
        for b in range(size):
            for j in range(units):
                i[b, j] = logistic_of_half(i[b, j] + p[b, j])  # (2)
            for j in range(units):
                f[b, j] = logistic_of_half(f[b, j] + p[b, units + j])
            for j in range(units):
                g[b, j] = tanh(g[b, j] + p[b, 2 * units + j])
            for j in range(units):
                o[b, j] = logistic_of_half(o[b, j] + p[b, 3 * units + j])
            for j in range(units):
                c[b, j] = f[b, j] * c_before[b, j] + i[b, j] * g[b, j]  # (3)
            for j in range(units):
                tanh_c[b, j] = tanh(c[b, j])  # (4)
            for j in range(units):
                h[b, j] = o[b, j] * tanh_c[b, j]  # (5)
        h_before, c_before, start, known = h, c, end, True


@kernel
def backward(
    gates: Array, cell: Array, tanh_cell: Array, hidden: Array, w_hh: Array, parts: Array,
    d_hidden: Array, d: Array, d_cell: Array, delta: Array, kept: Array, kept_cell: Array,
    sizes: Array, has_initial: bool,
) -> None:  # fmt: skip
    """``delta (N, 4 H)`` in the order i, f, g, o, from the last step down; see the layer."""
    units, start = hidden.shape[1], len(hidden)
    for t in range(len(sizes) - 1, -1, -1):
        size, end = sizes[t], start
        start -= size
        i, f = gates[0, start:end], gates[1, start:end]
        g, o = gates[2, start:end], gates[3, start:end]
        c, tanh_c, h = cell[start:end], tanh_cell[start:end], hidden[start:end]
        d_h, d_c, out = d[:size], d_cell[:size], delta[start:end]
        if len(d_hidden):
            add(d_hidden[start:end], d_h)
        if len(kept):
            copy(d_h, kept[start:end])
            copy(d_c, kept_cell[start:end])
        for b in range(size):
            for j in range(units):  # undoes (5), (2): a_o
                out[b, 3 * units + j] = d_h[b, j] * h[b, j] * (1 - o[b, j])
            for j in range(units):  # undoes (5), (4)
                d_c[b, j] += d_h[b, j] * (o[b, j] - h[b, j] * tanh_c[b, j])
            for j in range(units):  # undoes (3), (2): a_i
                out[b, j] = d_c[b, j] * i[b, j] * g[b, j] * (1 - i[b, j])
            for j in range(units):  # a_f; c - i g is f c_before
                out[b, units + j] = (
                    d_c[b, j] * (c[b, j] - i[b, j] * g[b, j]) * (1 - f[b, j])
                )  # fmt: skip
            for j in range(units):  # a_g
                out[b, 2 * units + j] = d_c[b, j] * i[b, j] * (1 - g[b, j] * g[b, j])
            for j in range(units):  # undoes (3): c_before
                d_c[b, j] *= f[b, j]
        if t > 0 or has_initial:
            multiply(out, w_hh, parts, d_h)  # undoes (1)
