"""A classifier's loss in kernels, and for captured steps its whole head (``softmax.cu``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from npnlp.backend.cuda.affine import Affine
from npnlp.backend.cuda.kernel_source import NULL, grid_of, real_option
from npnlp.backend.cuda.masks import Masks
from npnlp.backend.operations import Array, Learned
from npnlp.backend.random import Random

#: Threads of a block, as in ``softmax.cu``.
SOFTMAX_THREADS = 128


class KernelCrossEntropy:
    """See :class:`CrossEntropyPasses`; ``kernels/softmax.cu``."""

    def __init__(self, xp: Any, kernels: Any) -> None:
        self.xp, self.kernels = xp, kernels

    def forward(self, logits: Array, targets: Array) -> tuple[Array, Array]:
        """See :meth:`CrossEntropyPasses.forward`."""
        xp = self.xp
        logits = xp.ascontiguousarray(logits)
        probabilities, losses = xp.empty_like(logits), xp.empty(len(logits), dtype=logits.dtype)
        kernel = self.kernels.get("softmax.cu", "softmax_losses", real_option(logits.dtype))
        places = xp.ascontiguousarray(targets, dtype=np.int64)
        arguments = (logits, places, probabilities, losses, np.int32(logits.shape[1]))
        if logits.size:
            kernel((len(logits),), (SOFTMAX_THREADS,), arguments)
        return probabilities, losses

    def backward(self, d_losses: Array | float, probabilities: Array, targets: Array) -> Array:
        """See :meth:`CrossEntropyPasses.backward`."""
        xp, dtype = self.xp, probabilities.dtype
        scale, scales = dtype.type(0), NULL
        stride = np.int32(getattr(d_losses, "ndim", 0))
        if isinstance(d_losses, xp.ndarray):
            scales = xp.ascontiguousarray(d_losses, dtype=dtype)
        else:
            scale = dtype.type(d_losses)
        d_logits, columns = xp.empty_like(probabilities), np.int32(probabilities.shape[1])
        kernel = self.kernels.get("softmax.cu", "softmax_losses_backward", real_option(dtype))
        arguments = (
            probabilities, xp.ascontiguousarray(targets, dtype=np.int64), scales, stride, scale,
            d_logits, np.int64(d_logits.size), columns,
        )  # fmt: skip
        if d_logits.size:
            kernel(*grid_of(d_logits.size), arguments)
        return d_logits  # type: ignore[no-any-return]


class KernelHead:
    """See :class:`ClassifierHead`; ten launches, or one more where a product is cut into parts.

    (1) z = dropout(h)    (2) a = W_1 z + b_1    (3) r = ReLU(a)    (4) y = dropout(r)
    (5) logits = W_2 y + b_2                     (6) L = mean of the cross-entropies
    """

    def __init__(self, xp: Any, kernels: Any) -> None:
        self.xp, self.kernels = xp, kernels
        self.affine, self.masks = Affine(xp, kernels), Masks(xp, kernels)

    def __call__(
        self, h: Array, targets: Array, parameters: tuple[Array, ...], grads: tuple[Array, ...],
        streams: tuple[Random, Random], p: float,
    ) -> Learned:  # fmt: skip
        """See :class:`ClassifierHead`."""
        product, add_gradients = self.affine.product, self.affine.add_gradients
        (w_1, b_1, w_2, b_2), (d_w_1, d_b_1, d_w_2, d_b_2) = parameters, grads
        z, scale = self.masks.dropout(h, streams[0], p)  # (1)
        factor = self.masks.scale((len(h), len(w_1)), h.dtype, streams[1], p)
        y = product(z, w_1.T, b_1, factor, relu=True)  # (2), (3), (4)
        logits = product(y, w_2.T, b_2)  # (5)
        losses, loss_sum, correct, d_logits = self._losses(logits, targets)  # (6), and its undoing

        add_gradients(d_logits, y, d_w_2, d_b_2)  # undoes (5), towards the parameters
        d = product(d_logits, w_2, factor=factor)  # undoes (5), (4), (3)
        add_gradients(d, z, d_w_1, d_b_1)  # undoes (2), towards the parameters
        d_h = product(d, w_1, factor=scale)  # undoes (2), (1)
        return Learned(logits, losses, loss_sum, correct, d_h)

    def _losses(self, logits: Array, targets: Array) -> tuple[Array, Array, Array, Array]:
        """Losses, their sum, how many rows are right, and the gradient of the losses' mean."""
        xp, (rows, columns), dtype = self.xp, logits.shape, logits.dtype
        losses, right = xp.empty(rows, dtype=dtype), xp.empty(rows, dtype=bool)
        d_logits, places = xp.empty_like(logits), xp.ascontiguousarray(targets, dtype=np.int64)
        loss_sum, correct = xp.empty((), dtype=dtype), xp.empty((), dtype=np.int64)
        one, block = dtype.type(1.0 / rows), (SOFTMAX_THREADS,)
        self._get("softmax_head", logits)(
            (rows,), block, (logits, places, one, losses, right, d_logits, np.int32(columns))
        )
        self._get("head_totals", logits)(
            (1,), block, (losses, right, np.int32(rows), loss_sum, correct)
        )
        return losses, loss_sum, correct, d_logits

    def _get(self, name: str, like: Array) -> Any:
        return self.kernels.get("softmax.cu", name, real_option(like.dtype))
