"""Matrix products inside compiled functions, from tiles (:mod:`npnlp.backend.compiled.tile`).

BLAS copies both matrices at each call, so that they lie as it reads them. The loop over time
multiplies with the same weights at every step: they are copied once, into panels of some columns,
and each step then runs at the speed of the processor. A product is added to what is there.
"""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.kernel import inner, kernel
from npnlp.backend.compiled.tile import MOST_ROWS, ROW, make_tile, panel_width
from npnlp.backend.numpy_backend import aligned

#: Rows of a sum over rows at once: what is read of them again and again stays in the cache.
BLOCK = 128
#: The side of a square that is turned in registers.
SQUARE = 8

_tile_8, _tile_4, _tile_2, _tile_1 = (make_tile(rows, 1) for rows in (8, 4, 2, 1))
_pair_1 = make_tile(1, 2)


def panels_of(weights: Array, groups: int = 1) -> Array:
    """``weights (K, n)`` as ``(groups, P, K, width)``, each group an equal part of the columns.

    The last panel of a group ends in zeros where ``width`` does not divide its columns.
    """
    width, columns = panel_width(weights.dtype), weights.shape[1] // groups
    shape = groups, -(-columns // width), len(weights), width
    panels = aligned(shape, weights.dtype, np.zeros if columns % width else np.empty)
    fill_panels(weights, columns, panels)
    return panels


@kernel
def fill_panels(weights: Array, columns: int, panels: Array) -> None:
    """See :func:`panels_of`. By squares: the rows of a transposed matrix lie apart."""
    width, rows = panels.shape[3], len(weights)
    for g in range(len(panels)):
        for p in range(panels.shape[1]):
            first, panel = g * columns + p * width, panels[g, p]
            some = min(width, columns - p * width)
            for k in range(0, rows, SQUARE):
                for j in range(0, some, SQUARE):
                    if k + SQUARE <= rows and j + SQUARE <= some:
                        for down in range(SQUARE):
                            for right in range(SQUARE):
                                panel[k + down, j + right] = weights[k + down, first + j + right]
                    else:
                        for row in range(k, min(k + SQUARE, rows)):
                            for column in range(j, min(j + SQUARE, some)):
                                panel[row, column] = weights[row, first + column]


@inner
def room_for(batch: int, panels: Array) -> Array:
    """What :func:`add_product` computes in, for up to ``batch`` rows: ``(b, width)``."""
    return np.empty((batch, panels.shape[3]), dtype=panels.dtype)


@inner
def add_product(x: Array, panels: Array, rest: Array, out: Array) -> None:
    """``out += x W``, ``x (b, K)`` and ``out (b, n)``; ``panels (P, K, width)`` of W.

    ``rest (b, width)`` is to compute in, where ``width`` does not divide n.
    """
    width, n = panels.shape[2], out.shape[1]
    whole = n // width
    add_tiles(x, panels[:whole], out)
    if whole < len(panels):
        last, some = rest[: len(x)], n - whole * width
        for b in range(len(x)):
            for j in range(width):
                last[b, j] = out[b, whole * width + j] if j < some else 0
        add_tiles(x, panels[whole:], last)
        for b in range(len(x)):
            for j in range(some):
                out[b, whole * width + j] = last[b, j]


@inner
def add_tiles(x: Array, panels: Array, out: Array) -> None:
    """``out += x W`` of whole panels."""
    b, width, p = len(x), panels.shape[2], 0
    if b == 1:
        while p + 1 < len(panels):
            _pair_1(x, 0, panels, p, out, 0, p * width)
            p += 2
    while p < len(panels):
        i, j = 0, p * width
        if MOST_ROWS == 8:
            while b - i >= 8:
                _tile_8(x, i, panels, p, out, i, j)
                i += 8
            if b - i >= 4:
                _tile_4(x, i, panels, p, out, i, j)
                i += 4
        while b - i >= 2:
            _tile_2(x, i, panels, p, out, i, j)
            i += 2
        if b > i:
            _tile_1(x, i, panels, p, out, i, j)
        p += 1


@kernel
def add_outer(left: Array, right: Array, rows: Array, out: Array) -> None:
    """``out += sum_n left_n^T right_{rows_n}``, ``left (N, m)``, ``right (., n)``, ``out (m, n)``.

    A block of rows is copied as tiles read it: ``right`` in panels, ``left`` in columns.
    """
    width = ROW // out.itemsize
    m, n = out.shape
    panels = np.zeros((-(-n // width), BLOCK, width), dtype=out.dtype)
    columns = np.zeros((-(-m // MOST_ROWS), BLOCK, MOST_ROWS), dtype=out.dtype)
    rest = np.empty((MOST_ROWS, width), dtype=out.dtype)
    for start in range(0, len(rows), BLOCK):
        some = min(BLOCK, len(rows) - start)
        for k in range(some):
            row = rows[start + k]
            if not 0 <= row < len(right):
                raise IndexError("a row is out of range")
            for p in range(len(panels)):
                for j in range(min(width, n - p * width)):
                    panels[p, k, j] = right[row, p * width + j]
            for c in range(len(columns)):
                for i in range(min(MOST_ROWS, m - c * MOST_ROWS)):
                    columns[c, k, i] = left[start + k, c * MOST_ROWS + i]
        for c in range(len(columns)):
            first = c * MOST_ROWS
            some_rows = min(MOST_ROWS, m - first)
            x = columns[c, :some].T[:some_rows]
            add_product(x, panels, rest, out[first : first + some_rows])
