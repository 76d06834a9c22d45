"""Losses: softmax cross-entropy with class weights, and the mean squared error."""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack

from npnlp.backend import Array
from npnlp.backend.operations import CrossEntropyPasses
from npnlp.checks import require_whole
from npnlp.errors import InputError
from npnlp.layers.arguments import (
    number_like,
    require_cache,
    require_indices,
    require_number,
    require_some,
    require_whole_numbers,
)
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


class RowLosses:
    """The cross-entropy of each row, ``l_b = log sum_c exp z_bc - z_b,y_b``, in array calls.

    Backward: ``dL/dz_bc = dL/dl_b (softmax(z_b)_c - [c == y_b])``. See :class:`CrossEntropyPasses`.
    """

    def __init__(self, xp: Any) -> None:
        self.xp = xp

    def forward(self, logits: Array, targets: Array) -> tuple[Array, Array]:
        """``softmax(z) (B, C)`` and ``l (B,)``."""
        # Softmax does not change when a row is shifted; its largest element keeps exp in range.
        shifted = logits - logits.real.max(axis=1)[:, None]
        exponentials = self.xp.exp(shifted)  # (1)
        sums = exponentials.sum(axis=1)  # (2)
        losses = self.xp.log(sums) - shifted.reshape(-1).take(self._places(targets, logits))  # (3)
        return exponentials / sums[:, None], losses

    def backward(self, d_losses: Array | float, probabilities: Array, targets: Array) -> Array:
        """``dL/dz``, from ``dL/dl (B,)`` or one number for all rows."""
        d_logits = probabilities.copy()  # undoes (3), (2), (1): the logarithm of the sum
        d_logits.reshape(-1)[self._places(targets, d_logits)] -= 1  # undoes (3): the target
        d_logits *= d_losses[:, None] if getattr(d_losses, "ndim", 0) else d_losses  # type: ignore[index]
        return d_logits

    def _places(self, targets: Array, logits: Array) -> Array:
        """Where each row's target lies in the flat logits."""
        places: Array = targets + self.xp.arange(0, logits.size, logits.shape[1])
        return places


def count_correct(logits: Array, targets: Array) -> Any:
    """How many rows of ``logits (B, C)`` are largest at ``targets (B,)``, an integer array."""
    return (logits.argmax(axis=1) == targets).sum()


class SoftmaxCrossEntropy(Layer):
    """``L = sum_b w[y_b] l_b / sum_b w[y_b]`` with ``l_b = log sum_c exp z_bc - z_b,y_b``.

    Backward: ``dL/dz_bc = w[y_b] / sum w * (softmax(z_b)_c - [c == y_b])``.
    The weighted mean is that of PyTorch's ``CrossEntropyLoss``: scaling all weights by one number
    changes nothing. Without ``class_weights (C,)`` it is the plain mean.

    A row whose target is ``ignore_index`` has weight 0: it adds nothing to the loss and has no
    gradient; with None no row is ignored. If all rows are ignored there is no mean: the loss is
    NaN, the gradient 0, as in PyTorch. Raises :class:`InputError` for any other target that is not
    in ``[0, C)``.
    """

    def __init__(
        self,
        class_weights: Array | None = None,
        *,
        ignore_index: int | None = -100,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        if ignore_index is not None:
            require_whole("ignore_index", ignore_index, least=None)
        if class_weights is not None:
            self.expect("class_weights", class_weights, None)
        self.class_weights, self.ignore_index = class_weights, ignore_index

    def forward(self, logits: Array, targets: Array) -> tuple[Array, CrossEntropyCache]:
        """The loss (no axes) of ``logits (B, C)`` at ``targets (B,)`` integers in ``[0, C)``."""
        targets, ignored = self._without_ignored(targets, logits.shape[1])
        probabilities, losses = self._of_rows(logits).forward(logits, targets)  # (1), (2), (3)
        xp, weights, weight_sum = self.backend.xp, None, len(targets)
        if self.class_weights is not None:
            weights = self.class_weights.take(targets)
        if ignored is not None:
            losses = xp.where(ignored, 0, losses)
            weights = xp.where(ignored, 0, xp.ones_like(losses) if weights is None else weights)
        if weights is not None:
            weight_sum = weights.sum()
            losses *= weights  # (4)
        if not len(targets) or (ignored is not None and self.backend.to_numpy(ignored).all()):
            weight_sum = 0
        loss_sum = losses.sum()
        cache = CrossEntropyCache(probabilities, targets, weights, loss_sum, weight_sum)
        if type(weight_sum) is int and not weight_sum:  # no row counts
            return loss_sum + float("nan"), cache
        return loss_sum / weight_sum, cache  # (5)

    def backward(self, d_loss: Array | float, cache: CrossEntropyCache) -> Array:
        """Return ``dL/dlogits``; ``d_loss`` is 1 for the end of the chain."""
        total, d_loss = cache.weight_sum, number_like(d_loss, cache.probabilities)
        d_losses = d_loss / (1 if type(total) is int and not total else total)  # undoes (5)
        if cache.weights is not None:
            d_losses = d_losses * cache.weights  # undoes (4)
        rows = self._of_rows(cache.probabilities)
        return rows.backward(d_losses, cache.probabilities, cache.targets)  # undoes (3), (2), (1)

    def check_forward(self, logits: Array, targets: Array) -> None:
        """See :class:`Layer`."""
        self.expect("logits", logits, None, None)
        rows, classes = logits.shape
        if not classes:
            raise InputError(f"logits have shape {logits.shape}, and no class")
        require_whole_numbers("targets", targets, (rows,))
        targets, _ = self._without_ignored(targets, classes)
        require_indices("targets", targets, rows, classes, self.backend)
        if self.class_weights is not None:
            self.expect("class_weights", self.class_weights, classes)

    def check_backward(self, d_loss: Array | float, cache: CrossEntropyCache) -> None:
        """See :class:`Layer`."""
        require_cache(cache, CrossEntropyCache)
        require_number("d_loss", d_loss)

    def _without_ignored(self, targets: Array, classes: int) -> tuple[Array, Array | None]:
        """Targets with 0 for ignored ones, and which these are ``(B,)``; None for none."""
        if self.ignore_index is None:
            return targets, None
        if not 0 <= self.ignore_index < classes and self.backend.all_below(targets, classes):
            return targets, None
        ignored = targets == self.ignore_index
        return self.backend.xp.where(ignored, 0, targets), ignored

    def _of_rows(self, like: Array) -> CrossEntropyPasses:
        """The losses of each row: those of the backend where it has such passes."""
        return self.backend.cross_entropy_passes(like.dtype) or RowLosses(self.backend.xp)


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
        errors = y - targets  # (1)
        return (errors * errors).sum() / errors.size, SquaredErrorCache(errors)  # (2)

    def backward(self, d_loss: Array | float, cache: SquaredErrorCache) -> Array:
        """Return ``dL/dy``; ``d_loss`` is 1 for the end of the chain."""
        d_loss = number_like(d_loss, cache.errors)
        return cache.errors * (2 * d_loss / cache.errors.size)  # undoes (2), (1)

    def check_forward(self, y: Array, targets: Array) -> None:
        """See :class:`Layer`."""
        self.expect("y", y, ...)
        self.expect("targets", targets, *y.shape)
        require_some("y", y)

    def check_backward(self, d_loss: Array | float, cache: SquaredErrorCache) -> None:
        """See :class:`Layer`."""
        require_cache(cache, SquaredErrorCache)
        require_number("d_loss", d_loss)


def softmax(logits: Array, xp: Any) -> Array:
    """``exp z_c / sum exp z`` of every row, in ``xp``."""
    exponentials = xp.exp(logits - logits.max(axis=1)[:, None])
    return exponentials / exponentials.sum(axis=1)[:, None]  # type: ignore[no-any-return]
