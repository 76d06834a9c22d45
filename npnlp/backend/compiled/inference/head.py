"""From the features of sequences to probabilities, compiled: linear layers and softmax."""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.products import aligned, put_product, turn
from npnlp.backend.compiled.vectors.elementwise import add, columns, exp
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
    first, second = with_bias(weights, bias), with_bias(last, last_bias)
    turned, y = panels_with_ones(x.shape[1], x), panels_with_ones(len(weights), x)
    z, more = np.zeros((count + 2, BLOCK), x.dtype), np.zeros((len(weights), width), x.dtype)
    places, rest = np.empty(BLOCK, np.int32), np.empty((0, width), x.dtype)  # all panels are whole
    own = columns(0, width)
    for start in range(0, len(x), BLOCK):
        end = min(start + BLOCK, len(x))
        for p in range(-(-(end - start) // width)):
            low = start + p * width
            high, here = min(low + width, end), y[p, 1:]
            turn(x[low:high].T, turned[p, 1:])
            put_product(first, turned[p : p + 1], rest, here, 0, width)
            if len(before):
                turn(before[low:high].T, more)
                add(more, here, own)
            if last.shape[1]:
                for j in range(len(here)):
                    for b in own:
                        here[j, b] = 0 if here[j, b] < 0 else here[j, b]
            else:
                z[:count, p * width : (p + 1) * width] = here
        if last.shape[1]:
            put_product(second, y, rest, z[:count], 0, BLOCK)
        softmax(z)
        if len(out):
            out[start:end] = z[:count, : end - start].T
        else:
            find_largest(z[:count], places, z[count])
            classes[start:end], values[start:end] = places[: end - start], z[count, : end - start]


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
