"""A classifier's head and its loss, forward and backward, in reused arrays.

    (1) z = dropout(h)    (2) a = W_1 z + b_1    (3) r = ReLU(a)    (4) y = dropout(r)
    (5) logits = W_2 y + b_2                     (6) L = mean of the cross-entropies

For a small batch, calling the layers one by one takes as long as their work. Each line here is one
of theirs, in their order, so the bits are the same.
"""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Backend
from npnlp.backend.operations import Array, Learned
from npnlp.backend.random import Random


class TunedHead:
    """See :class:`ClassifierHead`; of ``backend`` it takes the dropout masks."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def __call__(
        self, h: Array, targets: Array, parameters: tuple[Array, ...], grads: tuple[Array, ...],
        streams: tuple[Random, Random], p: float,
    ) -> Learned:  # fmt: skip
        """See :class:`ClassifierHead`."""
        dot, (w_1, b_1, w_2, b_2), (d_w_1, d_b_1, d_w_2, d_b_2) = np.dot, parameters, grads
        z, scale_1 = self._dropout(h, streams[0], p)  # (1)
        r = dot(z, w_1.T)  # (2)
        r += b_1
        active = r > 0
        np.maximum(r, 0, out=r)  # (3)
        y, scale_2 = self._dropout(r, streams[1], p)  # (4)
        logits = dot(y, w_2.T)  # (5)
        logits += b_2
        losses, d_logits = losses_and_gradient(logits, targets)  # (6), and what undoes it

        ones = np.ones(len(h), dtype=h.dtype)  # a product with ones is a sum over rows
        d_b_2 += dot(ones, d_logits)  # undoes (5)
        d_w_2 += dot(d_logits.T, y)
        d = dot(d_logits, w_2)
        if scale_2 is not None:
            d *= scale_2  # undoes (4)
        d *= active  # undoes (3)
        d_b_1 += dot(ones, d)  # undoes (2)
        d_w_1 += dot(d.T, z)
        d = dot(d, w_1)
        if scale_1 is not None:
            d *= scale_1  # undoes (1)
        correct = np.count_nonzero(logits.argmax(axis=1) == targets)
        return Learned(logits, losses, losses.sum(), correct, d)

    def _dropout(self, x: Array, random: Random, p: float) -> tuple[Array, Array | None]:
        return self.backend.dropout(x, random, p) if p else (x, None)


def losses_and_gradient(logits: Array, targets: Array) -> tuple[Array, Array]:
    """The cross-entropy of each row ``(B,)``, and the gradient ``(B, C)`` of their mean.

    ``l_b = log sum_c exp z_bc - z_b,y_b``; ``dL/dz_bc = (softmax(z_b)_c - [c == y_b]) / B``.
    """
    shifted = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
    d_logits = np.exp(shifted)
    sums = np.add.reduce(d_logits, axis=1, keepdims=True)
    at_targets = targets + np.arange(0, logits.size, logits.shape[1])
    losses = np.log(sums).reshape(-1)
    losses -= shifted.reshape(-1).take(at_targets)
    d_logits /= sums  # softmax
    d_logits.reshape(-1)[at_targets] -= 1
    d_logits *= 1.0 / len(logits)
    return losses, d_logits
