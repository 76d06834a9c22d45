"""What a training step does beside the loop over time, each in one pass over its numbers.

Numbers that say where to look are checked: compiled code would read and write anywhere.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.kernel import kernel


@kernel
def segment_sum(values: Array, segments: Array, out: Array) -> None:
    """``out[s] += values[n]`` for every n with ``segments[n] == s``, in the order of n."""
    for n in range(len(values)):
        s = segments[n]
        if not 0 <= s < len(out):
            raise IndexError("a segment is out of range")
        for j in range(values.shape[1]):
            out[s, j] += values[n, j]


@kernel
def adam_step(
    values: Array, grads: Array, m: Array, v: Array, b1: Any, b2: Any, rate: Any, eps: Any
) -> None:
    """See :func:`npnlp.backend.plain.adam_step`; the numbers are of the arrays' type."""
    for i in range(len(values)):
        g = grads[i]
        m[i] = m[i] * b1 + g
        v[i] = v[i] * b2 + g * g
        values[i] -= rate * (m[i] / (np.sqrt(v[i]) + eps))


@kernel
def softmax_losses(logits: Array, targets: Array, probabilities: Array, losses: Array) -> None:
    """See :func:`npnlp.backend.plain.softmax_losses`."""
    for b in range(len(logits)):
        row, out, y = logits[b], probabilities[b], targets[b]
        if not 0 <= y < len(row):
            raise IndexError("a target is out of range")
        largest, total = row[0], type(row[0])(0)
        for c in range(len(row)):
            largest = max(largest, row[c])
        for c in range(len(row)):
            out[c] = math.exp(row[c] - largest)  # (1)
            total += out[c]  # (2)
        losses[b] = math.log(total) - (row[y] - largest)  # (3)
        for c in range(len(row)):
            out[c] /= total
