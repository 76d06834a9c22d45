"""From what was made of sequences to probabilities, compiled: linear layers, n-grams and softmax.

``rows (m,)`` says which of all n sequences are meant; what is made of them lies in that order.
"""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.elementwise import columns, exp
from npnlp.backend.compiled.kernel import inner, kernel
from npnlp.backend.compiled.products import add_product, panels_of, room_for

#: Rows at once.
BLOCK = 64


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
    """``out[rows] = softmax(relu(sums[rows] + x W + b) W_2 + b_2)``, ``out (n, C)``.

    ``sums`` may have no rows, and ``last (O, C)`` none where there is no second linear layer. Where
    ``out`` has none, ``classes (n,)`` are where a row of it is largest, and ``shares (n,)`` that
    number.
    """
    width, count = weights.shape[1], len(last_bias)
    panels, more = panels_of(weights, 1, 0, width), panels_of(last, 1, 0, last.shape[1])
    rest, y = room_for(BLOCK, panels), np.zeros((BLOCK, width), x.dtype)
    z, turned = np.zeros((BLOCK, count), x.dtype), np.empty((count + 2, BLOCK), x.dtype)
    places = np.empty(BLOCK, np.int32)
    for start in range(0, len(x), BLOCK):
        some = x[start : start + BLOCK]
        for b in range(len(some)):
            for j in columns(0, width):
                y[b, j] = bias[j]
            if len(sums):
                for j in columns(0, width):
                    y[b, j] += sums[rows[start + b], j]
        add_product(some, panels[0], rest, y[: len(some)], 0, width)
        if len(last):
            for b in range(len(some)):
                for j in columns(0, width):
                    y[b, j] = 0 if y[b, j] < 0 else y[b, j]
                for j in columns(0, count):
                    z[b, j] = last_bias[j]
            add_product(y[: len(some)], more[0], rest, z[: len(some)], 0, count)
        softmax(z if len(last) else y, turned)
        if not len(out):
            find_largest(turned[:count], places, turned[count])
        for b in range(len(some)):
            row = rows[start + b]
            if len(out):
                for c in range(count):
                    out[row, c] = turned[c, b]
            else:
                classes[row], shares[row] = places[b], turned[count, b]


@inner
def softmax(z: Array, out: Array) -> None:
    """``exp z_bc / sum_c exp z_bc``, ``out (C + 2, BLOCK)``; its last rows are to compute in.

    A row of ``z (BLOCK, C)`` is short, so rows become columns: as many go through at once.
    """
    own, classes = columns(0, BLOCK), len(out) - 2
    largest, total = out[classes], out[classes + 1]
    for c in range(classes):
        for b in own:
            out[c, b] = z[b, c]
    for b in own:
        largest[b], total[b] = out[0, b], 0
    for c in range(classes):
        for b in own:  # what is not a number stays
            largest[b] = largest[b] if out[c, b] <= largest[b] else out[c, b]
    for c in range(classes):
        for b in own:
            out[c, b] = exp(out[c, b] - largest[b])
        for b in own:
            total[b] += out[c, b]
    for c in range(classes):
        for b in own:
            out[c, b] /= total[b]


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
