"""A small affine map in one call: BLAS, and what is elementwise while its result is near.

Up to some size BLAS copies nothing before it multiplies, and tiles gain nothing over it.
"""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.vectors.elementwise import add, columns
from npnlp.backend.compiled.vectors.kernel import kernel


@kernel
def affine(x: Array, weight: Array, bias: Array, y: Array) -> None:
    """See :func:`npnlp.backend.plain.affine`."""
    np.dot(x, weight.T, y)  # (1)
    for n in range(len(y)):
        for j in range(len(bias)):
            y[n, j] += bias[j]  # (2)


@kernel
def affine_backward(
    dy: Array, x: Array, weight: Array, d_weight: Array, d_bias: Array, dx: Array
) -> None:
    """See :func:`npnlp.backend.plain.affine_backward`."""
    sums, product = np.zeros(dy.shape[1], dtype=dy.dtype), np.empty_like(weight)
    for n in range(len(dy)):
        for j in range(len(sums)):
            sums[j] += dy[n, j]
    np.dot(dy.T, x, product)
    for j in range(len(sums)):
        d_bias[j] += sums[j]  # undoes (2)
    add(product, d_weight, columns(0, x.shape[1]))  # undoes (1), towards W
    np.dot(dy, weight, dx)  # undoes (1), towards x
