"""From features to probabilities, compiled: linear layers and softmax."""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.panels import aligned, turn
from npnlp.backend.compiled.products import add_product
from npnlp.backend.compiled.vectors.elementwise import columns, exp
from npnlp.backend.compiled.vectors.kernel import inner, kernel
from npnlp.backend.compiled.vectors.tile import ROW, loose

#: Rows computed at a time.
BLOCK = 128


@kernel
def finish(
    x: Array, weights: Array, before: Array, bias: Array, last: Array, last_bias: Array,
    out: Array, classes: Array, values: Array,
) -> None:  # fmt: skip
    """``out = softmax(relu(x W^T + before + b) W_2^T + b_2)``, ``out (m, C)``.

    Shapes: ``x (m, K)``, ``weights (O, K)``, ``before (m, O)`` or no rows for zeros, ``last (C,
    O)`` or no columns where there is one linear layer and no ReLU. Where ``out`` has no rows,
    ``values (m,)`` gets the largest probability of each row, and ``classes (m,)`` its class.

    Rows are transposed, so that panels and vectors hold sequences: they are then full even if there
    are few classes.
    """
    count, width = len(last_bias), ROW // x.itemsize
    turned, y = panels_of_columns(x.shape[1], x), panels_of_columns(len(weights), x)
    z, places = np.zeros((count + 2, BLOCK), x.dtype), np.empty(BLOCK, np.int32)
    rest = np.empty((0, width), x.dtype)  # every panel is full
    for start in range(0, len(x), BLOCK):
        end = min(start + BLOCK, len(x))
        for p in range(-(-(end - start) // width)):
            low = start + p * width
            high, here = min(low + width, end), y[p]
            turn(loose(x[low:high].T), loose(turned[p]))
            if len(before):
                turn(loose(before[low:high].T), loose(here))
            else:
                here[:] = 0
            add_bias(bias, here)
            add_product(weights, turned[p : p + 1], rest, here, 0, width)
            if last.shape[1]:
                for j in range(len(here)):
                    for b in columns(0, width):
                        here[j, b] = 0 if here[j, b] < 0 else here[j, b]
            else:
                for j in range(count):
                    for b in columns(0, width):
                        z[j, p * width + b] = here[j, b]
        if last.shape[1]:
            z[:count] = 0
            add_bias(last_bias, z)
            add_product(last, y, rest, z[:count], 0, BLOCK)
        softmax(z)
        if len(out):
            for b in range(end - start):
                for c in range(count):
                    out[start + b, c] = z[c, b]
        else:
            find_largest(z[:count], places, z[count])
            for b in range(end - start):
                classes[start + b], values[start + b] = places[b], z[count, b]


@inner
def panels_of_columns(size: int, like: Array) -> Array:
    """Zeros ``(P, size, width)`` for the sequences of a block."""
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
    """``exp z_cb / sum_c exp z_cb`` in place; the last rows of ``z (C + 2, BLOCK)`` are scratch."""
    own, classes = columns(0, BLOCK), len(z) - 2
    largest, total = z[classes], z[classes + 1]
    for b in own:
        largest[b], total[b] = z[0, b], 0
    for c in range(classes):
        for b in own:  # NaN stays
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
    """The maximum of each column of ``x (C, BLOCK)`` and its row, the first of equals."""
    own = columns(0, BLOCK)
    for b in own:
        places[b], values[b] = 0, x[0, b]
    for c in range(1, len(x)):
        for b in own:
            places[b] = c if x[c, b] > values[b] else places[b]
        for b in own:
            values[b] = x[c, b] if x[c, b] > values[b] else values[b]
