"""The two loops over time of :class:`npnlp.layers.gru.GRU`, compiled.

A row goes through several short loops: each has few enough arrays for a compiler to see that none
overlaps another, which it has to before it computes with vectors.
"""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.elementwise import add, columns, copy, logistic, tanh
from npnlp.backend.compiled.kernel import kernel
from npnlp.backend.compiled.meeting import meet
from npnlp.backend.compiled.products import add_product, panels_of, room_for


@kernel
def forward(
    gates: Array, product: Array, hidden: Array, w_hh_t: Array, b_n: Array, initial: Array,
    sizes: Array, arrivals: Array, threads: int, low: int, high: int,
) -> None:  # fmt: skip
    """Fill ``gates (3, N, H)``, ``u`` on entry, ``product`` and ``hidden`` ``(N, H)``.

    ``w_hh_t (H, 3 H)`` is transposed; ``initial (B, H)``, or no rows for zeros.
    """
    own = columns(low, high)
    panels = panels_of(w_hh_t, 3, low, high)
    rest, known = room_for(sizes[0], panels), len(initial) > 0
    before = initial if known else np.zeros((sizes[0], hidden.shape[1]), dtype=hidden.dtype)
    start = 0
    for t in range(len(sizes)):
        end = start + sizes[t]
        r, z, n = gates[0, start:end], gates[1, start:end], gates[2, start:end]
        q, h, h_before = product[start:end], hidden[start:end], before[: sizes[t]]
        for b in range(len(h)):
            for j in own:
                q[b, j] = b_n[j]  # (3), with its part of (1)
        if known:
            add_product(h_before, panels[0], rest, r, low, high)  # (1)
            add_product(h_before, panels[1], rest, z, low, high)
            add_product(h_before, panels[2], rest, q, low, high)
        for b in range(len(h)):
            for j in own:
                r[b, j] = logistic(r[b, j])  # (2)
            for j in own:
                z[b, j] = logistic(z[b, j])
            for j in own:
                n[b, j] = tanh(n[b, j] + r[b, j] * q[b, j])  # (4)
            for j in own:
                h[b, j] = n[b, j] + z[b, j] * (h_before[b, j] - n[b, j])  # (5)
        before, start, known = h, end, True
        meet(arrivals, threads, t)


@kernel
def backward(
    gates: Array, product: Array, hidden: Array, w_hh: Array, d_hidden: Array, d: Array,
    delta: Array, kept: Array, sizes: Array, has_initial: bool, arrivals: Array, threads: int,
    low: int, high: int,
) -> None:  # fmt: skip
    """``delta (N, 4 H)`` in the order r, z, q, n, from the last step down; see the layer."""
    own = columns(low, high)
    panels = panels_of(w_hh, 1, low, high)
    rest, end, units = room_for(sizes[0], panels), len(hidden), np.uint64(hidden.shape[1])
    two, three = units + units, units + units + units
    for back in range(len(sizes)):
        size = sizes[len(sizes) - 1 - back]
        start = end - size
        r, z, n = gates[0, start:end], gates[1, start:end], gates[2, start:end]
        q, h, out, d_t = product[start:end], hidden[start:end], delta[start:end], d[:size]
        if len(d_hidden):
            add(d_hidden[start:end], d_t, own)
        if len(kept):
            copy(d_t, kept[start:end], own)
        for b in range(size):
            for j in own:  # undoes (5), (4): a_n
                out[b, three + j] = d_t[b, j] * (1 - z[b, j]) * (1 - n[b, j] * n[b, j])
            for j in own:  # undoes (5), (2): a_z; h - n is z (h_before - n)
                out[b, units + j] = d_t[b, j] * (h[b, j] - n[b, j]) * (1 - z[b, j])
            for j in own:  # undoes (4), (3): q
                out[b, two + j] = out[b, three + j] * r[b, j]
            for j in own:  # undoes (4), (2): a_r
                out[b, j] = out[b, three + j] * r[b, j] * q[b, j] * (1 - r[b, j])
            for j in own:  # undoes (5): what passes by the weights
                d_t[b, j] *= z[b, j]
        meet(arrivals, threads, back)
        if start > 0 or has_initial:
            add_product(out[:, :three], panels[0], rest, d_t, low, high)  # undoes (1)
        end = start
