"""Work cut to pieces that the processor's libraries are fastest at."""

from __future__ import annotations

from npnlp.backend.operations import Array

#: What backward makes for many rows at once, it makes for so many: they stay in a core's cache,
#: where those of a long sequence would have to come from main memory each time.
BLOCK = 2048
#: Narrower parts of a product are slower than the whole.
NARROWEST = 32


def columns_at_once(rows: int, inner: int, columns: int, limit: int) -> tuple[int, int]:
    """How many columns of a product ``(rows, inner) (inner, columns)`` to compute at once.

    So many that the multiplications are within ``limit``; all, where that would be too few. And up
    to how many rows it does not matter.
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


def add_each(into: Array, others: Array) -> None:
    """``into[k] += others[k]`` for each k, where each of these lies together but all do not.

    NumPy would go through a buffer for the whole.
    """
    for one, other in zip(into, others, strict=True):
        one += other
