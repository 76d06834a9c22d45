"""Sums, losses and Adam: the compiled operations of a training step outside the loop over time.

Indices are checked here, because compiled code does not check them.
"""

from __future__ import annotations

import math

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.vectors.elementwise import exp
from npnlp.backend.compiled.vectors.kernel import inner, kernel


@kernel
def segment_sum(values: Array, segments: Array, out: Array) -> None:
    """``out[s] += values[n]`` for every n with ``segments[n] == s``, in the order of n."""
    if not _added(out, segments, values):
        raise IndexError("a segment is out of range")


@kernel
def add_rows(table: Array, rows: Array, values: Array) -> None:
    """``table[rows[n]] += values[n]`` for every n."""
    if not _added(table, rows, values):
        raise IndexError("a row is out of range")


@inner
def _added(table: Array, rows: Array, values: Array) -> bool:
    """``table[rows] += values``, ``values (N, D)``; False at the first row out of range."""
    if values.shape != (len(rows), table.shape[1]):
        raise ValueError("rows of a table are added to with rows of another shape")
    for n in range(len(rows)):
        r = rows[n]
        if not 0 <= r < len(table):
            return False
        for j in range(table.shape[1]):
            table[r, j] += values[n, j]
    return True


@kernel
def adam_step(
    values: Array, grads: Array, m: Array, v: Array, b1: float, b2: float, rate: float, eps: float
) -> None:
    """See :data:`AdamStep`."""
    real = values.dtype.type
    b1_, b2_, rate_, eps_ = real(b1), real(b2), real(rate), real(eps)  # in the arrays' type
    for i in range(len(values)):
        g = grads[i]
        m[i] = m[i] * b1_ + g
        v[i] = v[i] * b2_ + g * g
        values[i] -= rate_ * (m[i] / (np.sqrt(v[i]) + eps_))


@inner
def require_targets(logits: Array, targets: Array) -> None:
    """Require one target for each row, and every target in range."""
    if len(targets) != len(logits):
        raise ValueError("targets are not as many as rows")
    for y in targets:
        if not 0 <= y < logits.shape[1]:
            raise IndexError("a target is out of range")


@kernel
def softmax_losses(logits: Array, targets: Array, probabilities: Array, losses: Array) -> None:
    """See :meth:`CrossEntropyPasses.forward`."""
    require_targets(logits, targets)
    for b in range(len(logits)):
        row, out = logits[b], probabilities[b]
        largest = row[0]
        for c in range(len(row)):
            largest = max(largest, row[c])
        for c in range(len(row)):
            out[c] = row[c] - largest
        losses[b] = out[targets[b]]
    of_all = probabilities.reshape(-1)
    for i in range(len(of_all)):
        of_all[i] = exp(of_all[i])  # (1)
    for b in range(len(logits)):
        out, total = probabilities[b], type(losses[b])(0)
        for c in range(len(out)):
            total += out[c]  # (2)
        losses[b] = math.log(total) - losses[b]  # (3)
        for c in range(len(out)):
            out[c] /= total


@kernel
def softmax_losses_backward(
    d_losses: Array, probabilities: Array, targets: Array, d_logits: Array
) -> None:
    """See :meth:`CrossEntropyPasses.backward`; ``d_losses (B,)`` or ``(1,)``."""
    require_targets(probabilities, targets)
    one = len(d_losses) == 1
    if not one and len(d_losses) != len(probabilities):
        raise ValueError("a gradient has another number of rows than the probabilities")
    for b in range(len(probabilities)):
        d, y = d_losses[0 if one else b], targets[b]
        for c in range(probabilities.shape[1]):
            d_logits[b, c] = probabilities[b, c] * d
        d_logits[b, y] = (probabilities[b, y] - 1) * d


@kernel
def count_correct(logits: Array, targets: Array) -> int:
    """See :func:`npnlp.layers.loss.count_correct`; the first of equal logits counts."""
    require_targets(logits, targets)
    correct = 0
    for b in range(len(logits)):
        row, y, others = logits[b], targets[b], 0
        largest = row[y]
        if largest == largest:
            for c in range(y):
                others += not row[c] < largest
            for c in range(y, len(row)):
                others += not row[c] <= largest
        else:  # NaN is the largest, as in NumPy
            for c in range(y):
                others += row[c] != row[c]
        correct += others == 0
    return correct


@kernel
def square_sums(values: Array, ends: Array, sums: Array) -> None:
    """See :meth:`Backend.square_sums`."""
    start = 0
    for k in range(len(ends)):
        part = values[start : ends[k]]
        sums[k] = np.dot(part, part)
        start = ends[k]
