"""Softmax cross-entropy with class weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Unpack

from npnlp.backend import Array
from npnlp.layers.base import Layer, LayerOptions


@dataclass(frozen=True)
class CrossEntropyCache:
    """What ``dL/dlogits`` needs: ``probabilities (B, C)``, ``targets (B,)``, ``weights (B,)``.

    ``weights`` are each row's class weight; ``total`` is their sum.
    """

    probabilities: Array
    targets: Array
    weights: Array
    total: Array


class SoftmaxCrossEntropy(Layer):
    """``L = sum_b w[y_b] l_b / sum_b w[y_b]`` with ``l_b = log sum_c exp z_bc - z_b,y_b``.

    Backward: ``dL/dz_bc = w[y_b] / sum w * (softmax(z_b)_c - [c == y_b])``.
    The weighted mean is that of PyTorch's ``CrossEntropyLoss``: scaling all weights by one number
    changes nothing. Without ``class_weights (C,)`` it is the plain mean.
    """

    def __init__(self, class_weights: Array | None = None, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.class_weights = class_weights

    def forward(self, logits: Array, targets: Array) -> tuple[Array, CrossEntropyCache]:
        """The loss (no axes) of ``logits (B, C)`` at ``targets (B,)`` integers in ``[0, C)``."""
        losses, probabilities, weights = self.terms(logits, targets)
        total = weights.sum()
        loss = (weights * losses).sum() / total  # (3)
        return loss, CrossEntropyCache(probabilities, targets, weights, total)

    def terms(self, logits: Array, targets: Array) -> tuple[Array, Array, Array]:
        """Each row's loss ``l_b``, softmax and class weight; sums of them make any mean."""
        xp = self.backend.xp
        rows = xp.arange(len(targets))
        # Softmax does not change when a row is shifted; its largest element keeps exp in range.
        shifted = logits - logits.real.max(axis=1)[:, None]
        exponentials = xp.exp(shifted)  # (1)
        sums = exponentials.sum(axis=1)
        losses = xp.log(sums) - shifted[rows, targets]  # (2)
        if self.class_weights is None:
            weights = xp.ones(len(targets), dtype=logits.real.dtype)
        else:
            weights = self.class_weights[targets]
        return losses, exponentials / sums[:, None], weights

    def backward(self, d_loss: Array | float, cache: CrossEntropyCache) -> Array:
        """Return ``dL/dlogits``; ``d_loss`` is 1 for the end of the chain."""
        d_losses = cache.weights * (d_loss / cache.total)  # undoes (3)
        d_logits = cache.probabilities * d_losses[:, None]  # undoes (2) and (1), the log-sum-exp
        rows = self.backend.xp.arange(len(cache.targets))
        d_logits[rows, cache.targets] -= d_losses  # undoes (2), the target's own logit
        return d_logits


def softmax(logits: Array, xp: Any) -> Array:
    """``exp z_c / sum exp z`` of every row, in ``xp``."""
    exponentials = xp.exp(logits - logits.max(axis=1)[:, None])
    return exponentials / exponentials.sum(axis=1)[:, None]  # type: ignore[no-any-return]
