"""From what was made of sequences to probabilities, compiled: linear layers, n-grams and softmax.

``rows (m,)`` says which of all n sequences are meant; what is made of them lies in that order.
"""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.products import (
    add_product,
    aligned,
    panels_of,
    put_product,
    room_for,
    turn,
)
from npnlp.backend.compiled.vectors.elementwise import columns, exp
from npnlp.backend.compiled.vectors.kernel import inner, kernel
from npnlp.backend.compiled.vectors.tile import ROW

#: Rows at once.
BLOCK = 128


@kernel
def add_linear(x: Array, weights: Array, rows: Array, sums: Array) -> None:
    """``sums[rows] += x W``, ``x (m, K)``, ``weights (K, O)``, ``sums (n, O)``."""
    panels, own = panels_of(weights, 1, 0, weights.shape[1]), columns(0, weights.shape[1])
    rest, y = room_for(BLOCK, panels), np.empty((BLOCK, weights.shape[1]), x.dtype)
    for start in range(0, len(x), BLOCK):
        some = x[start : start + BLOCK]
        for b in range(len(some)):
            for j in own:
                y[b, j] = sums[rows[start + b], j]
        add_product(some, panels[0], rest, y[: len(some)], 0, weights.shape[1])
        for b in range(len(some)):
            for j in own:
                sums[rows[start + b], j] = y[b, j]


@kernel
def finish(
    x: Array, weights: Array, rows: Array, sums: Array, bias: Array, last: Array, last_bias: Array,
    out: Array, classes: Array, shares: Array,
) -> None:  # fmt: skip
    """``out[rows] = softmax(relu(sums[rows] + x W^T + b) W_2^T + b_2)``, ``out (n, C)``.

    ``weights (O, K)`` and ``last (C, O)``, which has no columns where there is no second linear
    layer. ``sums`` may have no rows. Where ``out`` has none, ``classes (n,)`` are where a row of it
    is largest, and ``shares (n,)`` that number.

    Rows are turned into columns: weights are multiplied with as many sequences as a panel has room
    for, however few classes there are, and softmax takes as many at once.
    """
    count, width = len(last_bias), ROW // x.itemsize
    first, second = with_bias(weights, bias), with_bias(last, last_bias)
    turned, y = panels_with_ones(x.shape[1], x), panels_with_ones(len(weights), x)
    z, more = np.zeros((count + 2, BLOCK), x.dtype), np.zeros((width, sums.shape[1]), x.dtype)
    places, rest = np.empty(BLOCK, np.int32), np.empty((0, width), x.dtype)  # all panels are whole
    for start in range(0, len(x), BLOCK):
        end = min(start + BLOCK, len(x))
        for p in range(-(-(end - start) // width)):
            low = start + p * width
            high, here = min(low + width, end), y[p, 1:]
            turn(x[low:high].T, turned[p, 1:])
            put_product(first, turned[p : p + 1], rest, here, 0, width)
            if len(sums):
                add_turned(sums, rows[low:high], more, here)
            if last.shape[1]:
                for j in range(len(here)):
                    for b in columns(0, width):
                        here[j, b] = 0 if here[j, b] < 0 else here[j, b]
            else:
                z[:count, p * width : (p + 1) * width] = here
        if last.shape[1]:
            put_product(second, y, rest, z[:count], 0, BLOCK)
        softmax(z)
        if not len(out):
            find_largest(z[:count], places, z[count])
        for b in range(end - start):
            row = rows[start + b]
            if len(out):
                for c in range(count):
                    out[row, c] = z[c, b]
            else:
                classes[row], shares[row] = places[b], z[count, b]


@inner
def add_turned(sums: Array, rows: Array, more: Array, y: Array) -> None:
    """``y += sums[rows]^T``, ``y (O, width)``; ``more (width, O)`` is to turn in."""
    for b in range(len(rows)):
        for j in columns(0, len(y)):
            more[b, j] = sums[rows[b], j]
    for j in range(len(y)):
        for b in columns(0, y.shape[1]):
            y[j, b] += more[b, j]


@inner
def with_bias(weights: Array, bias: Array) -> Array:
    """``(O, 1 + K)``: the bias before the weights, for what has a one before its numbers."""
    both = np.empty((len(bias), 1 + weights.shape[1]), bias.dtype)
    both[:, 0] = bias
    both[:, 1:] = weights
    return both


@inner
def panels_with_ones(size: int, like: Array) -> Array:
    """``(P, 1 + size, width)`` for the columns of a block, the first row of each ones."""
    width = ROW // like.itemsize
    panels = aligned(BLOCK * (1 + size), like).reshape(BLOCK // width, 1 + size, width)
    panels[:] = 0
    panels[:, 0] = 1
    return panels


@inner
def softmax(z: Array) -> None:
    """``exp z_cb / sum_c exp z_cb`` of ``z (C + 2, BLOCK)``; its last rows are to compute in."""
    own, classes = columns(0, BLOCK), len(z) - 2
    largest, total = z[classes], z[classes + 1]
    for b in own:
        largest[b], total[b] = z[0, b], 0
    for c in range(classes):
        for b in own:  # what is not a number stays
            largest[b] = largest[b] if z[c, b] <= largest[b] else z[c, b]
    for c in range(classes):
        for b in own:
            z[c, b] = exp(z[c, b] - largest[b])
        for b in own:
            total[b] += z[c, b]
    for c in range(classes):
        for b in own:
            z[c, b] /= total[b]


@inner
def find_largest(x: Array, places: Array, values: Array) -> None:
    """The largest number of each column of ``x (C, BLOCK)``: the first of equals, and its place."""
    own = columns(0, BLOCK)
    for b in own:
        places[b], values[b] = 0, x[0, b]
    for c in range(1, len(x)):
        for b in own:
            places[b] = c if x[c, b] > values[b] else places[b]
        for b in own:
            values[b] = x[c, b] if x[c, b] > values[b] else values[b]
