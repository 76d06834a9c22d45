"""The two loops over time of :class:`npnlp.layers.lstm.LSTM`, compiled; see ``gru.py``."""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.elementwise import add, copy, logistic, tanh
from npnlp.backend.compiled.kernel import kernel
from npnlp.backend.compiled.products import add_product, panels_of, room_for


@kernel
def forward(
    gates: Array, cell: Array, tanh_cell: Array, hidden: Array, w_hh_t: Array,
    initial: Array, initial_cell: Array, sizes: Array, low: int, high: int,
) -> None:  # fmt: skip
    """Fill ``gates (4, N, H)``, ``u`` on entry, and what follows ``(N, H)``.

    ``w_hh_t (H, 4 H)`` is transposed; the initial states ``(B, H)``, or no rows for zeros.
    """
    panels = panels_of(w_hh_t, 4)
    rest, known, units = room_for(high - low, panels), len(initial) > 0, hidden.shape[1]
    zeros = np.zeros((0 if known else high - low, units), dtype=hidden.dtype)
    h_before = initial[low:high] if known else zeros
    c_before = initial_cell[low:high] if known else zeros
    start = 0
    for size in sizes:
        first, last = start + low, start + min(size, high)
        if last <= first:
            break
        i, f = gates[0, first:last], gates[1, first:last]
        g, o = gates[2, first:last], gates[3, first:last]
        c, tanh_c, h = cell[first:last], tanh_cell[first:last], hidden[first:last]
        if known:
            for k in range(4):
                add_product(h_before[: len(h)], panels[k], rest, gates[k, first:last])  # (1)
        for b in range(len(h)):
            for j in range(units):
                i[b, j] = logistic(i[b, j])  # (2)
            for j in range(units):
                f[b, j] = logistic(f[b, j])
            for j in range(units):
                g[b, j] = tanh(g[b, j])
            for j in range(units):
                o[b, j] = logistic(o[b, j])
            for j in range(units):
                c[b, j] = f[b, j] * c_before[b, j] + i[b, j] * g[b, j]  # (3)
            for j in range(units):
                tanh_c[b, j] = tanh(c[b, j])  # (4)
            for j in range(units):
                h[b, j] = o[b, j] * tanh_c[b, j]  # (5)
        h_before, c_before, start, known = h, c, start + size, True


@kernel
def backward(
    gates: Array, cell: Array, tanh_cell: Array, hidden: Array, w_hh: Array,
    d_hidden: Array, d: Array, d_cell: Array, delta: Array, kept: Array, kept_cell: Array,
    sizes: Array, has_initial: bool, low: int, high: int,
) -> None:  # fmt: skip
    """``delta (N, 4 H)`` in the order i, f, g, o, from the last step down; see the layer."""
    panels = panels_of(w_hh, 1)
    rest, units, start = room_for(high - low, panels), hidden.shape[1], len(hidden)
    for t in range(len(sizes) - 1, -1, -1):
        start -= sizes[t]
        first, last = start + low, start + min(sizes[t], high)
        if last <= first:
            continue
        i, f = gates[0, first:last], gates[1, first:last]
        g, o = gates[2, first:last], gates[3, first:last]
        c, tanh_c, h = cell[first:last], tanh_cell[first:last], hidden[first:last]
        end = low + last - first
        d_h, d_c, out = d[low:end], d_cell[low:end], delta[first:last]
        if len(d_hidden):
            add(d_hidden[first:last], d_h)
        if len(kept):
            copy(d_h, kept[first:last])
            copy(d_c, kept_cell[first:last])
        for b in range(len(h)):
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
            d_h[:] = 0
            add_product(out, panels[0], rest, d_h)  # undoes (1)
