"""From the features of sequences to probabilities, compiled: linear layers and softmax."""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.products import add_product, aligned, turn
from npnlp.backend.compiled.vectors.elementwise import columns, exp
from npnlp.backend.compiled.vectors.kernel import inner, kernel
from npnlp.backend.compiled.vectors.tile import ROW

#: Rows at once.
BLOCK = 128


@kernel
def finish(
    x: Array, weights: Array, before: Array, bias: Array, last: Array, last_bias: Array,
    out: Array, classes: Array, values: Array,
) -> None:  # fmt: skip
    """``out = softmax(relu(x W^T + before + b) W_2^T + b_2)``, ``out (m, C)``.

    Shapes: ``x (m, K)``, ``weights (O, K)``, ``before (m, O)`` or no rows for zeros, ``last (C,
    O)`` or no columns where there is one linear layer and no ReLU. Where ``out`` has no rows,
    ``classes (m,)`` are where a row of it would be largest, and ``values (m,)`` the number there.

    Rows are turned into columns: weights are multiplied with as many sequences as a panel has room
    for, however few classes there are, and softmax takes as many at once.
    """
    count, width = len(last_bias), ROW // x.itemsize
    turned, y = panels_of_columns(x.shape[1], x), panels_of_columns(len(weights), x)
    z, places = np.zeros((count + 2, BLOCK), x.dtype), np.empty(BLOCK, np.int32)
    rest = np.empty((0, width), x.dtype)  # all panels are whole
    for start in range(0, len(x), BLOCK):
        end = min(start + BLOCK, len(x))
        for p in range(-(-(end - start) // width)):
            low = start + p * width
            high, here = min(low + width, end), y[p]
            turn(x[low:high].T, turned[p])
            if len(before):
                turn(before[low:high].T, here)
            else:
                here[:] = 0
            add_bias(bias, here)
            add_product(weights, turned[p : p + 1], rest, here, 0, width)
            if last.shape[1]:
                for j in range(len(here)):
                    for b in columns(0, width):
                        here[j, b] = 0 if here[j, b] < 0 else here[j, b]
            else:
                z[:count, p * width : (p + 1) * width] = here
        if last.shape[1]:
            z[:count] = 0
            add_bias(last_bias, z)
            add_product(last, y, rest, z[:count], 0, BLOCK)
        softmax(z)
        if len(out):
            out[start:end] = z[:count, : end - start].T
        else:
            find_largest(z[:count], places, z[count])
            classes[start:end], values[start:end] = places[: end - start], z[count, : end - start]


@inner
def panels_of_columns(size: int, like: Array) -> Array:
    """``(P, size, width)`` for the columns of a block."""
    width = ROW // like.itemsize
    panels = aligned(BLOCK * size, like).reshape(BLOCK // width, size, width)
    panels[:] = 0
    return panels


@inner
def add_bias(bias: Array, y: Array) -> None:
    """Add ``bias (O,)`` to every column of ``y``."""
    for j in range(len(bias)):
        for b in columns(0, y.shape[1]):
            y[j, b] += bias[j]


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
