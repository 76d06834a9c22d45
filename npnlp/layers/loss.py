"""Losses: softmax cross-entropy with class weights, and the mean squared error."""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack

from npnlp.backend import Array
from npnlp.errors import InputError
from npnlp.layers.base import Layer, LayerOptions
from npnlp.summary import summarized


@summarized
class CrossEntropyCache(NamedTuple):
    """What ``dL/dlogits`` needs, and the two sums that a mean over several batches is made of.

    ``probabilities (B, C)``; ``targets (B,)``; ``weights (B,)``, each row's class weight, or None
    for ones; ``loss_sum`` the weighted sum of losses and ``weight_sum`` that of the weights.
    """

    probabilities: Array
    targets: Array
    weights: Array | None
    loss_sum: Array
    weight_sum: Array | int


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
        # A backend does these in one go: sum exp z (1, 2), then its logarithm less z_y (3).
        probabilities, losses = self.backend.softmax_losses(logits, targets)  # (1), (2), (3)
        weights, weight_sum = None, len(targets)
        if self.class_weights is not None:
            weights = self.class_weights.take(targets)
            weight_sum = weights.sum()
            losses *= weights  # (4)
        loss_sum = losses.sum()
        cache = CrossEntropyCache(probabilities, targets, weights, loss_sum, weight_sum)
        return loss_sum / weight_sum, cache  # (5)

    def backward(self, d_loss: Array | float, cache: CrossEntropyCache) -> Array:
        """Return ``dL/dlogits``; ``d_loss`` is 1 for the end of the chain."""
        d_losses = d_loss / cache.weight_sum  # undoes (5)
        if cache.weights is not None:
            d_losses = d_losses * cache.weights  # undoes (4)
        return self.backend.softmax_losses_backward(
            d_losses, cache.probabilities, cache.targets
        )  # undoes (3), (2), (1): p less one at the target, which is both parts of (3)


@summarized
class SquaredErrorCache(NamedTuple):
    """``errors``, shaped like y: what was said less what is true."""

    errors: Array


class MeanSquaredError(Layer):
    """``L = sum_n e_n^2 / N`` with ``e = y - t``, over all N numbers of y.

    Backward: ``dL/dy_n = 2 e_n / N``. Equal to PyTorch's ``MSELoss``.
    """

    def forward(self, y: Array, targets: Array) -> tuple[Array, SquaredErrorCache]:
        """The loss (no axes) of ``y`` at ``targets`` of the same shape, which are constant."""
        if y.shape != targets.shape:
            raise InputError(f"targets of shape {targets.shape} for y of shape {y.shape}")
        errors = y - targets  # (1)
        return (errors * errors).sum() / errors.size, SquaredErrorCache(errors)  # (2)

    def backward(self, d_loss: Array | float, cache: SquaredErrorCache) -> Array:
        """Return ``dL/dy``; ``d_loss`` is 1 for the end of the chain."""
        return cache.errors * (2 * d_loss / cache.errors.size)  # undoes (2), (1)


def softmax(logits: Array, xp: Any) -> Array:
    """``exp z_c / sum exp z`` of every row, in ``xp``."""
    exponentials = xp.exp(logits - logits.max(axis=1)[:, None])
    return exponentials / exponentials.sum(axis=1)[:, None]  # type: ignore[no-any-return]
