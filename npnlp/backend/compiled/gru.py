"""The two loops over time of :class:`npnlp.layers.gru.GRU`, compiled.

A row goes through several short loops: each has few enough arrays for a compiler to see that none
overlaps another, which it has to before it computes with vectors.
"""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.elementwise import add, copy, logistic_of_half, tanh
from npnlp.backend.compiled.kernel import kernel
from npnlp.backend.compiled.products import multiply


@kernel
def forward(
    gates: Array, product: Array, hidden: Array, w_hh_t: Array, parts: Array, b_n: Array,
    initial: Array, sizes: Array,
) -> None:  # fmt: skip
    """Fill ``gates (3, N, H)``, ``u`` on entry, ``product`` and ``hidden`` ``(N, H)``.

    ``w_hh_t (H, 3 H)`` is transposed; ``initial (B, H)``, or no rows for zeros.
    """
    batch, units = sizes[0], hidden.shape[1]
    sums = np.zeros((batch, 3 * units), dtype=hidden.dtype)
    known = len(initial) > 0
    before = initial if known else np.zeros((batch, units), dtype=hidden.dtype)
    start = 0
    for size in sizes:
        end = start + size
        r, z, n = gates[0, start:end], gates[1, start:end], gates[2, start:end]
        p, q, h = sums[:size], product[start:end], hidden[start:end]
        if known:
            multiply(before[:size], w_hh_t, parts, p)  # (1)
        for b in range(size):
            for j in range(units):
                r[b, j] = logistic_of_half(r[b, j] + p[b, j])  # (2)
            for j in range(units):
                z[b, j] = logistic_of_half(z[b, j] + p[b, units + j])
            for j in range(units):
                q[b, j] = p[b, 2 * units + j] + b_n[j]  # (3)
            for j in range(units):
                n[b, j] = tanh(n[b, j] + r[b, j] * q[b, j])  # (4)
            for j in range(units):
                h[b, j] = n[b, j] + z[b, j] * (before[b, j] - n[b, j])  # (5)
        before, start, known = h, end, True


@kernel
def backward(
    gates: Array, product: Array, hidden: Array, w_hh: Array, parts: Array, d_hidden: Array,
    d: Array, delta: Array, kept: Array, sizes: Array, has_initial: bool,
) -> None:  # fmt: skip
    """``delta (N, 4 H)`` in the order r, z, q, n, from the last step down; see the layer."""
    units, start = hidden.shape[1], len(hidden)
    sums = np.empty((sizes[0], 3 * units), dtype=hidden.dtype)
    backs = np.empty((sizes[0], units), dtype=hidden.dtype)
    for t in range(len(sizes) - 1, -1, -1):
        size, end = sizes[t], start
        start -= size
        r, z, n = gates[0, start:end], gates[1, start:end], gates[2, start:end]
        q, h, out = product[start:end], hidden[start:end], delta[start:end]
        d_t, s = d[:size], sums[:size]
        if len(d_hidden):
            add(d_hidden[start:end], d_t)
        if len(kept):
            copy(d_t, kept[start:end])
        for b in range(size):
            for j in range(units):  # undoes (5), (4): a_n
                out[b, 3 * units + j] = d_t[b, j] * (1 - z[b, j]) * (1 - n[b, j] * n[b, j])
            for j in range(units):  # undoes (5), (2): a_z; h - n is z (h_before - n)
                s[b, units + j] = d_t[b, j] * (h[b, j] - n[b, j]) * (1 - z[b, j])
            for j in range(units):  # undoes (4), (3): q
                s[b, 2 * units + j] = out[b, 3 * units + j] * r[b, j]
            for j in range(units):  # undoes (4), (2): a_r
                s[b, j] = out[b, 3 * units + j] * r[b, j] * q[b, j] * (1 - r[b, j])
            for j in range(units):  # undoes (5): what passes by the weights
                d_t[b, j] *= z[b, j]
            for j in range(3 * units):
                out[b, j] = s[b, j]
        if t > 0 or has_initial:
            back = backs[:size]
            multiply(s, w_hh, parts, back)  # undoes (1)
            add(back, d_t)
