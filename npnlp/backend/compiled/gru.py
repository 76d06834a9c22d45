"""The two loops over time of :class:`npnlp.layers.gru.GRU`, compiled.

A row goes through several short loops: each has few enough arrays for a compiler to see that none
overlaps another, which it has to before it computes with vectors.
"""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.elementwise import add, copy, logistic, tanh
from npnlp.backend.compiled.kernel import kernel
from npnlp.backend.compiled.products import add_product, panels_of, room_for


@kernel
def forward(
    gates: Array, product: Array, hidden: Array, w_hh_t: Array, b_n: Array, initial: Array,
    sizes: Array, low: int, high: int,
) -> None:  # fmt: skip
    """Fill ``gates (3, N, H)``, ``u`` on entry, ``product`` and ``hidden`` ``(N, H)``.

    ``w_hh_t (H, 3 H)`` is transposed; ``initial (B, H)``, or no rows for zeros.
    """
    panels = panels_of(w_hh_t, 3)
    rest, known, units = room_for(high - low, panels), len(initial) > 0, hidden.shape[1]
    before = initial[low:high] if known else np.zeros((high - low, units), dtype=hidden.dtype)
    start = 0
    for size in sizes:
        first, last = start + low, start + min(size, high)
        if last <= first:
            break
        r, z, n = gates[0, first:last], gates[1, first:last], gates[2, first:last]
        q, h = product[first:last], hidden[first:last]
        q[:] = b_n  # (3), with its part of (1)
        if known:
            h_before = before[: len(h)]
            add_product(h_before, panels[0], rest, r)  # (1)
            add_product(h_before, panels[1], rest, z)
            add_product(h_before, panels[2], rest, q)
        for b in range(len(h)):
            for j in range(units):
                r[b, j] = logistic(r[b, j])  # (2)
            for j in range(units):
                z[b, j] = logistic(z[b, j])
            for j in range(units):
                n[b, j] = tanh(n[b, j] + r[b, j] * q[b, j])  # (4)
            for j in range(units):
                h[b, j] = n[b, j] + z[b, j] * (before[b, j] - n[b, j])  # (5)
        before, start, known = h, start + size, True


@kernel
def backward(
    gates: Array, product: Array, hidden: Array, w_hh: Array, d_hidden: Array, d: Array,
    delta: Array, kept: Array, sizes: Array, has_initial: bool, low: int, high: int,
) -> None:  # fmt: skip
    """``delta (N, 4 H)`` in the order r, z, q, n, from the last step down; see the layer."""
    panels = panels_of(w_hh, 1)
    rest, units, start = room_for(high - low, panels), hidden.shape[1], len(hidden)
    for t in range(len(sizes) - 1, -1, -1):
        start -= sizes[t]
        first, last = start + low, start + min(sizes[t], high)
        if last <= first:
            continue
        r, z, n = gates[0, first:last], gates[1, first:last], gates[2, first:last]
        q, h, out = product[first:last], hidden[first:last], delta[first:last]
        d_t = d[low : low + last - first]
        if len(d_hidden):
            add(d_hidden[first:last], d_t)
        if len(kept):
            copy(d_t, kept[first:last])
        for b in range(len(h)):
            for j in range(units):  # undoes (5), (4): a_n
                out[b, 3 * units + j] = d_t[b, j] * (1 - z[b, j]) * (1 - n[b, j] * n[b, j])
            for j in range(units):  # undoes (5), (2): a_z; h - n is z (h_before - n)
                out[b, units + j] = d_t[b, j] * (h[b, j] - n[b, j]) * (1 - z[b, j])
            for j in range(units):  # undoes (4), (3): q
                out[b, 2 * units + j] = out[b, 3 * units + j] * r[b, j]
            for j in range(units):  # undoes (4), (2): a_r
                out[b, j] = out[b, 3 * units + j] * r[b, j] * q[b, j] * (1 - r[b, j])
            for j in range(units):  # undoes (5): what passes by the weights
                d_t[b, j] *= z[b, j]
        if t > 0 or has_initial:
            add_product(out[:, : 3 * units], panels[0], rest, d_t)  # undoes (1)
