"""What a training step of the classifier has to do, counted from its layers and the batch.

Sizes: N packed rows in T steps, ``b_t`` of the B sequences still running at step t, R different
characters in the batch; D features of the embedding, H hidden units, G gates, C classes; P numbers
that are learned. Everything is float32.

Products, an (m, k) times a (k, n) matrix, ``2 m k n`` operations each:

    forward     (R, D) (D, GH)            the vocabulary projected once, then looked up
                (b_t, H) (H, GH)          each step but the first, where the state is zero
                (B, H) (H, H), (B, H) (H, C)                            the two linear layers
    backward    (C, B) (B, H), (B, C) (C, H), (H, B) (B, H), (B, H) (H, H)     the same two
                (b_t, GH) (GH, H)         each step but the first
                (GH, N - B) (N - B, H)    the gradient of W_hh, all steps in one
                (GH, R) (R, D), (R, GH) (GH, D)       the gradients of W_ih and of the embedding

Sweeps are what only moves numbers: each array that an elementwise chain reads or writes is counted
once, as if the chain were one pass over memory. ``FORWARD``, ``BACKWARD`` and ``TANH`` say how many
numbers of the size ``b_t H`` a step of each cell reads and writes, and how many it puts through a
tanh (a sigmoid is one too). So the count is of the mathematics, not of how it is programmed: a step
that makes more passes, or more products, has that on top.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from npnlp.classifier.batches import Batch

#: Read u and p and, of gated cells, the states before; write what backward needs and the states.
FORWARD = {"elman": 2 + 1, "gru": 3 + 3 + 1 + 5, "lstm": 4 + 4 + 1 + 7}
#: Read what forward kept, dL/dh and what the product gives; write delta and dL/d of the states.
BACKWARD = {"elman": 1 + 1 + 1, "gru": 5 + 2 + 5, "lstm": 6 + 2 + 5}
TANH = {"elman": 1, "gru": 3, "lstm": 5}
#: Of size (B, H): dropout (read, mask, write) twice, ReLU, a bias; the same coming back.
HEAD = 2 * (3 + 2 + 3 + 2)
#: Of size (B, C): softmax, the loss and its gradient.
LOSS = 6
#: Of size P: Adam reads w, g, m, v and writes w, m, v; before it, the norm of the gradient and that
#: of the weights, which find a number that is not finite; and the gradient is set to zero.
OPTIMIZER = 7 + 2 + 1
FLOAT, INDEX = 4, 8


@dataclass(frozen=True)
class Product:
    """An ``(m, k)`` by a ``(k, n)`` matrix."""

    m: int
    k: int
    n: int

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return 2 * self.m * self.k * self.n


@dataclass(frozen=True)
class Tanh:
    """So many numbers through tanh."""

    evaluations: int


@dataclass(frozen=True)
class Sweep:
    """So many bytes read and written, for ``part`` of the step.

    ``held`` are those of the arrays themselves, where some are read or written several times.
    """

    part: str
    moved: int
    held: int | None = None


Operation = Product | Tanh | Sweep


def work_of(model: Any, batch: Batch) -> Iterator[Operation]:
    """Every operation of a training step of a :class:`SurnameClassifier` of one recurrent layer."""
    (cell,) = model.encoder.cells
    yield from of_recurrent(cell, model.config.cell, batch)
    rows = len(batch.rows)
    for linear in (model.fc1, model.fc2):
        yield from of_linear(linear, rows)
    hidden, classes = cell.hidden_size, model.config.num_classes
    yield Sweep("elementwise", FLOAT * rows * (HEAD * hidden + LOSS * classes))
    learned = FLOAT * model.flat.values.size
    yield Sweep("optimizer", OPTIMIZER * learned, held=4 * learned)  # w, g, m and v


def of_linear(linear: Any, rows: int) -> Iterator[Operation]:
    """Forward, and the gradients of the weight and of the input."""
    out, features = linear.parameters["weight"].shape
    yield Product(rows, features, out)
    yield Product(out, rows, features)
    yield Product(rows, out, features)


def of_recurrent(cell: Any, kind: str, batch: Batch) -> Iterator[Operation]:
    """The look-up, the loop over time forward and back, and the weight gradients."""
    packing, seen = batch.packing, len(batch.vocabulary)
    rows, first = packing.rows, packing.batch_sizes[0]
    width, features = cell.parameters["weight_ih_l0"].shape
    hidden = cell.hidden_size
    yield Product(seen, features, width)
    yield Product(width, seen, features)
    yield Product(seen, width, features)
    if rows > first:
        yield Product(width, rows - first, hidden)
    for step, running in enumerate(packing.batch_sizes):
        if step:
            yield Product(running, hidden, width)
            yield Product(running, width, hidden)
        yield Tanh(running * hidden * TANH[kind])
        yield Sweep("elementwise", FLOAT * running * hidden * FORWARD[kind])
        yield Sweep("elementwise", FLOAT * running * hidden * BACKWARD[kind])
    yield Sweep("elementwise", FLOAT * seen * width)  # the gradients of the biases
    yield Sweep("gather", FLOAT * 2 * rows * width + INDEX * rows)  # the look-up
    yield Sweep("gather", FLOAT * (rows + seen) * width + INDEX * rows)  # its gradient
    yield Sweep("gather", FLOAT * 5 * seen * features)  # the embedding: rows out, gradient in
    yield Sweep("gather", FLOAT * 2 * (rows - first) * hidden)  # h_{t-1}, for the gradient of W_hh
    yield Sweep("gather", FLOAT * 2 * first * hidden)  # the last states
