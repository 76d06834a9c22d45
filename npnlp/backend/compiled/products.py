"""The product inside the compiled loops: BLAS, in parts where the whole would be slower."""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.blocks import by_columns, columns_at_once
from npnlp.backend.compiled.kernel import inner
from npnlp.backend.numpy_backend import NumpyBackend

#: BLAS is faster with small weights that were copied as it reads them; of larger ones the copy
#: takes longer than that saves.
LARGE = 2**17
#: The copies of a large matrix in parts are worth it where the rows to multiply with them are at
#: least such a part of its columns.
WORTH = 0.25


def in_parts(weights: Array, batch: int, rows: int) -> tuple[Array, Array]:
    """The ``weights (K, n)`` to multiply up to ``batch`` rows at a time with, ``rows`` in all.

    And columns of them in copies ``(parts, K, width)``: no parts, where the whole is as fast.
    """
    inner_size, columns = weights.shape
    width, _ = columns_at_once(batch, inner_size, columns, NumpyBackend.small_product)
    if width == columns or rows < WORTH * columns:
        whole = weights if weights.size > LARGE else np.ascontiguousarray(weights)
        return whole, np.empty((0, inner_size, 1), dtype=weights.dtype)
    return weights, np.ascontiguousarray(by_columns(np.ascontiguousarray(weights), width))


@inner
def multiply(x: Array, weights: Array, parts: Array, out: Array) -> None:
    """``out = x W``, ``(b, K) (K, n)``."""
    if len(parts) == 0:
        np.dot(x, weights, out)
        return
    width = parts.shape[2]
    some = np.empty((len(x), width), dtype=x.dtype)
    for k in range(len(parts)):
        np.dot(x, parts[k], some)
        for b in range(len(x)):
            for j in range(width):
                out[b, k * width + j] = some[b, j]
