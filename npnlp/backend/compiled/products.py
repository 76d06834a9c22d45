"""Matrix products inside compiled functions, from tiles (``backend/compiled/vectors/tile.py``).

BLAS packs both matrices at every call. The loop over time multiplies with the same weights at every
step, so they are packed once, into panels of ``width`` columns.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.panels import (
    copy_columns,
    empty_panels,
    no_rows,
    panels_of,
    room_for,
)
from npnlp.backend.compiled.vectors.elementwise import columns
from npnlp.backend.compiled.vectors.kernel import distinct, inner, kernel
from npnlp.backend.compiled.vectors.tile import MOST_ROWS, ROW, loose, make_tile

#: Rows of ``out``, and rows to sum over, that are computed at a time: they stay in the cache.
BLOCK, SUMMED = 64, 256
#: Panels of ``left`` that :func:`outer` copies at a time.
NEAR = 16


def _tiles(parts: int, how: str) -> Callable[[Array, Array, int, int, Array, int, bool], None]:
    """``out[:, low:] += x W`` in tiles, from the panels ``first`` to ``last`` of W.

    Panels are ``(P, K, width)``. A tile uses the first ``width / parts`` columns of each; ``how``
    see :func:`make_tile`. ``turned``, the last panel comes first. A single row takes two panels at
    a time: the sums of one are too few to keep the processor busy.
    """
    tile_8, tile_4, tile_2, tile_1 = (make_tile(rows, parts, how) for rows in (8, 4, 2, 1))
    tile_1_2 = make_tile(1, parts, how, beside=2)

    def multiply(
        x: Array, panels: Array, first: int, last: int, out: Array, low: int, turned: bool
    ) -> None:
        b, width, at = len(x), panels.shape[2], first
        if b == 1 and parts == 1:
            while last - at >= 2:
                p = first + last - 2 - at if turned else at
                tile_1_2(x, 0, panels, p, out, 0, low + (p - first) * width)
                at += 2
        while at < last:
            p = first + last - 1 - at if turned else at
            i, j = 0, low + (p - first) * width
            if MOST_ROWS == 8:
                while b - i >= 8:
                    tile_8(x, i, panels, p, out, i, j)
                    i += 8
                if b - i >= 4:
                    tile_4(x, i, panels, p, out, i, j)
                    i += 4
            while b - i >= 2:
                tile_2(x, i, panels, p, out, i, j)
                i += 2
            if b > i:
                tile_1(x, i, panels, p, out, i, j)
            at += 1

    return inner(distinct(multiply, parts, how))


def _product(how: str) -> Callable[[Array, Array, Array, Array, int, int, bool], None]:
    """``out += x W`` in columns ``low`` to ``high``, whose ``panels (P, K, width)`` are given.

    Shapes: ``x (b, K)``, ``out (b, n)``. ``rest (b, width)`` is scratch for the last panel, where
    ``width`` does not divide the columns. ``how`` see :func:`make_tile`.

    A loop that multiplies with the same weights at every step does so with every other one
    ``turned``: it begins with the panels that it read last, which are still in the cache.
    """
    by_panels, by_halves = _tiles(1, how), _tiles(2, how)
    anew = how == "anew"

    def product(
        x: Array, panels: Array, rest: Array, out: Array, low: int, high: int, turned: bool
    ) -> None:  # fmt: skip
        width = panels.shape[2]
        whole = (high - low) // width
        by_panels(x, panels, 0, whole, out, low, turned)
        if whole < len(panels):
            last, first = loose(rest[: len(x)]), low + whole * width
            some = high - first
            if not anew:
                for b in range(len(x)):
                    for j in range(some):
                        last[b, j] = out[b, first + j]
            if 2 * some <= width:
                by_halves(x, panels, whole, whole + 1, last, 0, turned)
            else:
                by_panels(x, panels, whole, whole + 1, last, 0, turned)
            for b in range(len(x)):
                for j in range(some):
                    out[b, first + j] = last[b, j]

    of_loose = inner(distinct(product, how))

    def of_any(
        x: Array, panels: Array, rest: Array, out: Array, low: int, high: int, turned: bool
    ) -> None:  # fmt: skip
        of_loose(loose(x), loose(panels), rest, loose(out), low, high, turned)

    return inner(distinct(of_any, how))


#: ``out += x W`` and ``out = x W``: see :func:`_product`. The sums of :func:`add_apart` are not
#: rounded to the places of a large number in ``out``, such as the bias of a closed gate.
add_product, add_apart, put_product = _product("onward"), _product("apart"), _product("anew")


@kernel
def affine(x: Array, weights: Array, bias: Array, out: Array, low: int, high: int) -> None:
    """``out (1, N, n) = x W + b``, W ``(K, n)`` and b ``(1, n)``: columns ``low`` to ``high``."""
    project(x, weights, bias, out, None, low, high)


@kernel
def affine_of_gates(x: Array, weights: Array, bias: Array, out: Array, low: int, high: int) -> None:
    """The same for G gates, ``out (G, N, n)``, W ``(K, G n)`` and b ``(G, n)``; b is added last."""
    project(x, weights, bias, out, True, low, high)


@inner
def project(
    x: Array, weights: Array, bias: Array, out: Array, gates: bool | None, low: int, high: int
) -> None:
    """:func:`affine` where ``gates`` is None, else :func:`affine_of_gates`.

    Numba makes code only for that branch of a test for None which is taken.
    """
    if x.shape[1] != len(weights) or bias.size != weights.shape[1]:
        raise ValueError("incompatible sizes")
    panels, own = panels_of(weights, len(out), low, high), columns(low, high)
    rest = room_for(BLOCK, panels)
    for start in range(0, len(x), BLOCK):
        some = x[start : start + BLOCK]
        for g in range(len(panels)):
            part = out[g, start : start + BLOCK]
            for b in range(len(part)):
                for j in own:
                    part[b, j] = bias[g, j]
            if gates is None:
                add_product(some, panels[g], rest, part, low, high, False)
            else:
                add_apart(some, panels[g], rest, part, low, high, False)


@kernel
def affine_backward(
    dy: Array, x: Array, weight: Array, d_weight: Array, d_bias: Array, dx: Array, low: int,
    high: int,
) -> None:  # fmt: skip
    """See :meth:`AffineMaps.affine_backward`: columns ``low`` to ``high`` of ``dx``.

    Also the same fraction of the rows of ``d_weight`` and ``d_bias``.
    """
    if x.shape[0] != len(dy) or x.shape[1] != weight.shape[1] or dy.shape[1] != len(weight):
        raise ValueError("incompatible sizes")
    n, wide = weight.shape
    first, last = n * low // wide, n * high // wide
    for k in range(len(dy)):
        for j in columns(first, last):
            d_bias[j] += dy[k, j]
    outer(dy, x, no_rows(), d_weight, first, last)
    pass_on(dy, weight, dx, n, low, high)


@inner
def pass_on(dy: Array, weight: Array, dx: Array, units: int, low: int, high: int) -> None:
    """``dx = dy W`` in columns ``low`` to ``high``, gate by gate: each has ``units`` rows of W.

    ``dy`` has ``units`` columns for each gate. A GRU's has one more block; the last but one, the
    gradient of q, is skipped.
    """
    panels, own = panels_of(weight, 1, low, high), columns(low, high)
    rest = room_for(BLOCK, panels)
    for first in range(0, len(dy), BLOCK):
        some, part = dy[first : first + BLOCK], dx[first : first + BLOCK]
        for b in range(len(part)):
            for j in own:
                part[b, j] = 0
        for start in range(0, len(weight), units):
            end, at = start + units, block_of(start, units, len(weight), dy.shape[1])
            of_gate = panels[0, :, start:end]
            add_product(some[:, at : at + units], of_gate, rest, part, low, high, False)


@inner
def block_of(start: int, units: int, rows: int, columns: int) -> int:
    """The first column of the gradient for the gate whose rows of W begin at ``start``.

    W has ``rows`` rows, the gradient ``columns`` columns: see :func:`pass_on`.
    """
    return start + columns - rows if start + units == rows else start


@kernel
def add_outer(left: Array, right: Array, rows: Array, out: Array, low: int, high: int) -> None:
    """See :meth:`AffineMaps.add_outer`: rows ``low`` to ``high`` of ``out``.

    Empty ``rows`` stand for None.
    """
    outer(left, right, rows, out, low, high)


@inner
def outer(left: Array, right: Array, rows: Array, out: Array, low: int, high: int) -> None:
    """``out += left^T right[rows]`` in rows ``low`` to ``high``, from panels of both."""
    count = len(rows) if len(rows) else len(right)
    if count != len(left) or out.shape[0] != left.shape[1] or out.shape[1] != right.shape[1]:
        raise ValueError("incompatible sizes")
    for row in rows:
        if not 0 <= row < len(right):
            raise IndexError("a row is out of range")
    width, n, none = ROW // out.itemsize, out.shape[1], no_rows()
    wide = min(NEAR, -(-(high - low) // width)) * width
    panels = empty_panels(1, n, min(SUMMED, len(left)), out)[0]
    near = empty_panels(1, wide, panels.shape[1], out)[0]
    rest = np.empty((MOST_ROWS, width), dtype=out.dtype)
    for start in range(0, len(left), SUMMED):
        some = min(SUMMED, len(left) - start)
        copy_columns(loose(right), rows, start, 0, n, panels[:, :some])
        for edge in range(low, high, wide):
            end = min(edge + wide, high)
            copy_columns(loose(left), none, start, edge, end, near[:, :some])
            for first in range(edge, end, MOST_ROWS):
                p, j = (first - edge) // width, (first - edge) % width
                last = min(first + MOST_ROWS, end)
                turned = near[p, :some, j : j + last - first].T
                add_product(turned, panels[:, :some], rest, out[first:last], 0, n, False)
