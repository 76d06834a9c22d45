"""Linear: the fully connected layer."""

from __future__ import annotations

from typing import Unpack

from npnlp.backend import Array
from npnlp.layers.base import Cache, Layer, LayerOptions, uniform_fan


class LinearCache(Cache):
    """``x (N, D)``: the input, which ``dW`` is an outer product with."""

    x: Array


class Linear(Layer):
    """``y = x W^T + b``; backward ``dW = dy^T x``, ``db = sum_n dy_n``, ``dx = dy W``.

    Shapes: x ``(N, in_features)``, ``weight (out_features, in_features)``, ``bias
    (out_features,)``, y ``(N, out_features)``. Both start uniform in ``+-1/sqrt(in_features)``.
    """

    def __init__(
        self, in_features: int, out_features: int, **options: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**options)
        self.in_features, self.out_features = in_features, out_features
        self.add_parameter("weight", uniform_fan((out_features, in_features), in_features))
        self.add_parameter("bias", uniform_fan((out_features,), in_features))

    def forward(self, x: Array) -> tuple[Array, LinearCache]:
        """Apply the layer to every row."""
        w, b = self.parameters["weight"], self.parameters["bias"]
        return self.backend.affine(x, w, b), LinearCache(x)  # (1) x W^T, (2) + b

    def backward(self, dy: Array, cache: LinearCache) -> Array:
        """Add ``dL/dW`` and ``dL/db``; return ``dL/dx``."""
        grads, weight = self.grads, self.parameters["weight"]
        return self.backend.affine_backward(
            dy, cache.x, weight, grads["weight"], grads["bias"]
        )  # undoes (2), (1)
