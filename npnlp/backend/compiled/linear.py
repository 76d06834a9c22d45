"""A small affine map in one call, by BLAS.

Up to some size BLAS does not pack its matrices, and tiles are no faster.
"""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.vectors.elementwise import add, columns
from npnlp.backend.compiled.vectors.kernel import kernel


@kernel
def affine(x: Array, weight: Array, bias: Array, y: Array) -> None:
    """The forward pass of :class:`npnlp.layers.Linear`."""
    np.dot(x, weight.T, y)  # (1)
    for n in range(len(y)):
        for j in range(len(bias)):
            y[n, j] += bias[j]  # (2)


@kernel
def affine_backward(
    dy: Array, x: Array, weight: Array, d_weight: Array, d_bias: Array, dx: Array
) -> None:
    """The backward pass of :class:`npnlp.layers.Linear`."""
    sums, product = np.zeros(dy.shape[1], dtype=dy.dtype), np.empty_like(weight)
    for n in range(len(dy)):
        for j in range(len(sums)):
            sums[j] += dy[n, j]
    np.dot(dy.T, x, product)
    for j in range(len(sums)):
        d_bias[j] += sums[j]  # undoes (2)
    add(product, d_weight, columns(0, x.shape[1]))  # undoes (1), towards W
    np.dot(dy, weight, dx)  # undoes (1), towards x
