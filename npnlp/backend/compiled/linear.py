"""The fully connected layer and ReLU: BLAS, and what is elementwise while its result is near."""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.elementwise import add
from npnlp.backend.compiled.kernel import kernel


@kernel
def linear(x: Array, weight: Array, bias: Array, y: Array) -> None:
    """See :func:`npnlp.backend.plain.linear`."""
    np.dot(x, weight.T, y)  # (1)
    for n in range(len(y)):
        for j in range(len(bias)):
            y[n, j] += bias[j]  # (2)


@kernel
def linear_backward(
    dy: Array, x: Array, weight: Array, d_weight: Array, d_bias: Array, dx: Array
) -> None:
    """See :func:`npnlp.backend.plain.linear_backward`."""
    sums, product = np.zeros(dy.shape[1], dtype=dy.dtype), np.empty_like(weight)
    for n in range(len(dy)):
        for j in range(len(sums)):
            sums[j] += dy[n, j]
    np.dot(dy.T, x, product)
    add(sums, d_bias)  # undoes (2)
    add(product, d_weight)  # undoes (1), towards W
    np.dot(dy, weight, dx)  # undoes (1), towards x


@kernel
def relu(x: Array, y: Array, active: Array) -> None:
    """See :func:`npnlp.backend.plain.relu`; ``active`` is in the type of x."""
    values, larger, ones = x.reshape(-1), y.reshape(-1), active.reshape(-1)
    for i in range(len(values)):
        larger[i] = 0 if values[i] <= 0 else values[i]  # what is not a number stays
        ones[i] = 1 if values[i] > 0 else 0
