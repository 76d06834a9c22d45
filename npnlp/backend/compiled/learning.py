"""A classifier's head and its loss, forward and backward in one call.

    (1) z = dropout(h)    (2) a = W_1 z + b_1    (3) r = ReLU(a)    (4) y = dropout(r)
    (5) logits = W_2 y + b_2                     (6) L = mean of the cross-entropies

For a small batch, calling a dozen functions takes longer than their work. These are the functions
that the layers call one by one, so the bits are the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled import linear, philox, products, sums
from npnlp.backend.compiled.vectors import elementwise
from npnlp.backend.compiled.vectors.kernel import called, inner, kernel

small_affine, small_affine_backward = called(linear.affine), called(linear.affine_backward)
large_affine, large_affine_backward = called(products.affine), called(products.affine_backward)
dropout, relu, count_correct = (
    called(philox.dropout), called(elementwise.relu), called(sums.count_correct)
)  # fmt: skip
softmax_losses, softmax_losses_backward = (
    called(sums.softmax_losses), called(sums.softmax_losses_backward)
)  # fmt: skip


@inner
def affine(x: Array, weight: Array, bias: Array, y: Array, small: int | None) -> None:
    """``y = x W^T + b``; BLAS computes up to ``small`` multiplications, or all of them.

    Numba makes code only for that branch of a test for None which is taken.
    """
    if small is None or x.size * len(weight) <= small:
        small_affine(x, weight, bias, y)
    else:
        whole = y.reshape(1, len(x), len(weight))
        large_affine(x, weight.T, bias.reshape(1, -1), whole, 0, len(weight))


@inner
def affine_backward(
    dy: Array, x: Array, weight: Array, d_weight: Array, d_bias: Array, dx: Array,
    small: int | None,
) -> None:  # fmt: skip
    """Undo :func:`affine`."""
    if small is None or x.size * len(weight) <= small:
        small_affine_backward(dy, x, weight, d_weight, d_bias, dx)
    else:
        large_affine_backward(dy, x, weight, d_weight, d_bias, dx, 0, x.shape[1])


@inner
def scale(d: Array, by: Array) -> None:
    """``d = d by``."""
    for b in range(len(d)):
        for j in range(np.uint64(d.shape[1])):
            d[b, j] *= by[b, j]


@kernel
def learn(
    h: Array, targets: Array, w_1: Array, b_1: Array, w_2: Array, b_2: Array, d_w_1: Array,
    d_b_1: Array, d_w_2: Array, d_b_2: Array, key_1: Array, key_2: Array, step: Any, threshold: int,
    kept: float, small: int | None, logits: Array, losses: Array, d: Array,
) -> int:  # fmt: skip
    """Fill ``logits (B, C)``, ``losses (B,)`` and ``d = dL/dh (B, F)``; add the gradients.

    Returns how many rows have their largest logit at the target.
    """
    z, scale_1 = np.empty_like(h), np.empty_like(h)
    dropout(h, key_1, step, threshold, kept, z, scale_1)  # (1)
    a = np.empty((len(h), len(w_1)), dtype=h.dtype)
    affine(z, w_1, b_1, a, small)  # (2)
    r, active, y, scale_2 = np.empty_like(a), np.empty_like(a), np.empty_like(a), np.empty_like(a)
    relu(a, r, active)  # (3)
    dropout(r, key_2, step, threshold, kept, y, scale_2)  # (4)
    affine(y, w_2, b_2, logits, small)  # (5)
    probabilities, d_logits = np.empty_like(logits), np.empty_like(logits)
    softmax_losses(logits, targets, probabilities, losses)  # (6)

    share = np.full(1, 1 / len(h), dtype=h.dtype)
    softmax_losses_backward(share, probabilities, targets, d_logits)  # undoes (6)
    affine_backward(d_logits, y, w_2, d_w_2, d_b_2, a, small)  # undoes (5)
    scale(a, scale_2)  # undoes (4)
    scale(a, active)  # undoes (3)
    affine_backward(a, z, w_1, d_w_1, d_b_1, d, small)  # undoes (2)
    scale(d, scale_1)  # undoes (1)
    return int(count_correct(logits, targets))
