"""The two loops over time of :class:`npnlp.layers.elman.Elman`, compiled."""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.elementwise import add, copy, tanh
from npnlp.backend.compiled.kernel import kernel
from npnlp.backend.compiled.products import multiply


@kernel
def forward(
    hidden: Array, w_hh_t: Array, parts: Array, initial: Array, sizes: Array, relu: bool
) -> None:
    """``h_t = phi(u_t + W_hh h_{t-1})``, in place of ``u (N, H)``.

    ``w_hh_t (H, H)`` is transposed, with ``parts`` as :func:`multiply` takes them; ``initial
    (B, H)``, or no rows for zeros.
    """
    product = np.zeros((sizes[0], hidden.shape[1]), dtype=hidden.dtype)
    before, start = initial, 0
    for size in sizes:
        now, p = hidden[start : start + size], product[:size]
        if len(before):
            multiply(before[:size], w_hh_t, parts, p)  # (1)
        a, sums = now.reshape(-1), p.reshape(-1)
        for i in range(len(a)):  # (2)
            a[i] += sums[i]
            if relu:
                a[i] = 0 if a[i] < 0 else a[i]
            else:
                a[i] = tanh(a[i])
        before, start = now, start + size


@kernel
def backward(
    hidden: Array, w_hh: Array, parts: Array, d_hidden: Array, d: Array, delta: Array, kept: Array,
    sizes: Array, has_initial: bool, relu: bool,
) -> None:  # fmt: skip
    """``delta_t = phi'(a_t) d_t`` and ``d_{t-1} = delta_t W_hh``, from the last step down.

    ``d_hidden`` and ``kept`` ``(N, H)``, or no rows where they are not wanted.
    """
    start = len(hidden)
    for t in range(len(sizes) - 1, -1, -1):
        size = sizes[t]
        start -= size
        h, out, d_t = hidden[start : start + size], delta[start : start + size], d[:size]
        if len(d_hidden):
            add(d_hidden[start : start + size], d_t)
        if len(kept):
            copy(d_t, kept[start : start + size])
        for b in range(size):
            for j in range(h.shape[1]):  # undoes (2)
                phi = h[b, j]
                if relu:
                    out[b, j] = d_t[b, j] if phi > 0 else 0
                else:
                    out[b, j] = d_t[b, j] * (1 - phi * phi)
        if t > 0 or has_initial:
            multiply(out, w_hh, parts, d_t)  # undoes (1)
