"""Work in blocks of the sizes that are fastest for BLAS and the cache."""

from __future__ import annotations

from npnlp.backend.operations import Array

#: Rows that a backward pass computes at a time: they stay in a core's cache.
BLOCK = 2048
#: A matrix product in narrower parts is slower than in one.
NARROWEST = 32


def columns_at_once(rows: int, inner: int, columns: int, limit: int) -> tuple[int, int]:
    """How many columns of a product ``(rows, inner) (inner, columns)`` to compute at a time.

    Few enough for at most ``limit`` multiplications; all, where parts would be too narrow. Also
    returns up to how many rows all columns can be computed at a time.
    """
    width = columns
    while rows * inner * width > limit:
        width //= 2
        if width < NARROWEST or columns % width:
            return columns, rows
    return width, limit // (inner * columns)


def by_columns(matrix: Array, width: int) -> Array:
    """A view ``(..., n / width, m, width)`` of matrices ``(..., m, n)``."""
    parts: Array = matrix.reshape(*matrix.shape[:-1], -1, width).swapaxes(-2, -3)
    return parts
