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

#: Rows of a product, and rows that are summed over, at once: what is read of them again and again
#: stays in the cache.
BLOCK, SUMMED = 64, 256
#: The side of a square that is turned in registers.
SQUARE = 8

_tile_8, _tile_4, _tile_2, _tile_1 = map(make_tile, (8, 4, 2, 1))


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
    for g in range(len(panels)):
        for start in range(0, len(weights), SQUARE):
            end = min(start + SQUARE, len(weights))
            copy_to_panels(weights[start:end, g * columns : (g + 1) * columns], panels[g], start)


@inner
def copy_to_panels(rows: Array, panels: Array, first: int) -> None:
    """Copy up to 8 ``rows (b, n)`` to rows ``first`` and following of ``panels (P, K, width)``."""
    width, (b, n) = panels.shape[2], rows.shape
    for p in range(len(panels)):
        for j in range(p * width, min((p + 1) * width, n), SQUARE):
            to = panels[p, first : first + b, j - p * width :]
            if b == SQUARE and j + SQUARE <= n:
                for row in range(SQUARE):
                    for column in range(SQUARE):
                        to[row, column] = rows[row, j + column]
            else:
                for row in range(b):
                    for column in range(min(SQUARE, n - j)):
                        to[row, column] = rows[row, j + column]


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
    b, width = len(x), panels.shape[2]
    for p in range(len(panels)):
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


@kernel
def affine(x: Array, panels: Array, bias: Array, low: int, high: int, out: Array) -> None:
    """Rows from ``low`` to ``high`` of ``out (G, N, n) = x W + b``, ``bias (G, n)``."""
    rest = room_for(BLOCK, panels)
    for start in range(low, high, BLOCK):
        end = min(start + BLOCK, high)
        for g in range(len(panels)):
            part = out[g, start:end]
            part[:] = bias[g]
            add_product(x[start:end], panels[g], rest, part)


@kernel
def add_outer(left: Array, right: Array, rows: Array, low: int, high: int, out: Array) -> None:
    """Rows from ``low`` to ``high`` of ``out (m, n) += sum_n left_n^T right_{rows_n}``.

    A block of rows of ``right`` is copied into panels.
    """
    width, n = ROW // out.itemsize, out.shape[1]
    panels = np.zeros((-(-n // width), SUMMED, width), dtype=out.dtype)
    rest = np.empty((MOST_ROWS, width), dtype=out.dtype)
    found = np.empty((SQUARE, n), dtype=out.dtype)
    for start in range(0, len(left), SUMMED):
        some = min(SUMMED, len(left) - start)
        for k in range(0, some, SQUARE):
            first, last = start + k, start + min(k + SQUARE, some)
            if len(rows):
                _look_up(right, rows[first:last], found)
                copy_to_panels(found[: last - first], panels, k)
            else:
                copy_to_panels(right[first:last], panels, k)
        for first in range(low, high, MOST_ROWS):
            last = min(first + MOST_ROWS, high)
            columns = left[start : start + some, first:last].T
            add_product(columns, panels[:, :some], rest, out[first:last])


@inner
def _look_up(table: Array, rows: Array, out: Array) -> None:
    for k in range(len(rows)):
        if not 0 <= rows[k] < len(table):
            raise IndexError("a row is out of range")
        out[k] = table[rows[k]]
