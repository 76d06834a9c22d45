"""Copies of a matrix for its products: panels of ``width`` columns, ``(P, K, width)``."""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.vectors.kernel import inner
from npnlp.backend.compiled.vectors.tile import ROW, VECTOR, copy_row, loose, turn_square


@inner
def panels_of(weights: Array, groups: int, low: int, high: int) -> Array:
    """``weights (K, G n)`` as ``(G, P, K, width)``: columns ``low`` to ``high`` of each group.

    The last panel of a group ends in zeros where ``width`` does not divide the columns.
    """
    n = weights.shape[1] // groups
    panels, none = empty_panels(groups, high - low, len(weights), weights), no_rows()
    for g in range(groups):
        copy_columns(loose(weights), none, 0, g * n + low, g * n + high, loose(panels[g]))
    return panels


@inner
def aligned(size: int, like: Array) -> Array:
    """An array ``(size,)`` that starts at a cache line."""
    room = np.empty(size + ROW // like.itemsize, dtype=like.dtype)
    first = -room.ctypes.data % ROW // like.itemsize
    return room[first : first + size]


@inner
def empty_panels(groups: int, columns: int, rows: int, like: Array) -> Array:
    """``(groups, P, rows, width)``, each row aligned to cache lines."""
    width = ROW // like.itemsize
    parts = -(-columns // width)
    size = groups * parts * rows * width
    panels = aligned(size, like).reshape(groups, parts, rows, width)
    if columns % width:
        for g in range(groups):
            panels[g, parts - 1].reshape(-1)[:] = 0
    return panels


@inner
def no_rows() -> Array:
    """No row indices: stands for None."""
    return np.empty(0, dtype=np.intp)


@inner
def copy_columns(
    source: Array, rows: Array, start: int, first: int, last: int, panels: Array
) -> None:
    """Copy columns ``first`` to ``last`` of row ``start + k`` of ``source`` to ``panels[:, k]``.

    With ``rows``, of row ``rows[start + k]``. Memory is read in the order in which it lies.
    """
    count, width = panels.shape[1], panels.shape[2]
    whole = (last - first) // width
    if source.strides[1] != source.itemsize and source.shape[1] > 1:
        for p in range(-(-(last - first) // width)):
            edge = first + p * width
            turn(source[start : start + count, edge : min(edge + width, last)], panels[p])
        return
    for k in range(count):
        row = rows[start + k] if len(rows) else start + k
        for p in range(whole):
            copy_row(source, row, first + p * width, panels, p, k)
        for j in range(last - first - whole * width):
            panels[whole, k, j] = source[row, first + whole * width + j]


@inner
def turn(columns: Array, panel: Array) -> None:
    """Copy ``columns (K, n)``, with rows that are not contiguous, to ``panel (K, width)``."""
    rows, n = columns.shape
    side = VECTOR // panel.itemsize
    for k in range(0, rows, side):
        for j in range(0, n, side):
            whole = k + side <= rows and j + side <= n
            if whole and columns.strides[0] == columns.itemsize:
                turn_square(columns, k, j, panel)
            else:
                for row in range(k, min(k + side, rows)):
                    for column in range(j, min(j + side, n)):
                        panel[row, column] = columns[row, column]


@inner
def room_for(batch: int, panels: Array) -> Array:
    """The scratch array ``rest`` of :func:`_product`, for up to ``batch`` rows."""
    return np.empty((batch, panels.shape[3]), dtype=panels.dtype)
