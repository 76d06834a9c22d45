"""Linear: the fully connected layer."""

from __future__ import annotations

from typing import Unpack

from npnlp.backend import Array
from npnlp.checks import require_whole
from npnlp.layers.arguments import require_cache
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
        require_whole("in_features", in_features)
        require_whole("out_features", out_features)
        self.in_features, self.out_features = in_features, out_features
        self.add_parameter("weight", uniform_fan((out_features, in_features), in_features))
        self.add_parameter("bias", uniform_fan((out_features,), in_features))

    def forward(self, x: Array) -> tuple[Array, LinearCache]:
        """Apply the layer to every row."""
        weight, bias = self.parameters.values()
        if passes := self.backend.linear_passes(self.dtype):
            return passes.forward(x, weight, bias), LinearCache(x)
        y: Array = self.backend.xp.dot(x, weight.T)  # (1)
        y += bias  # (2)
        return y, LinearCache(x)

    def backward(self, dy: Array, cache: LinearCache) -> Array:
        """Add ``dL/dW`` and ``dL/db``; return ``dL/dx``."""
        weight, (d_weight, d_bias) = self.parameters["weight"], self.grads.values()
        if passes := self.backend.linear_passes(self.dtype):
            return passes.backward(dy, cache.x, weight, d_weight, d_bias)
        dot, ones = self.backend.xp.dot, self.backend.xp.ones(len(dy), dtype=dy.dtype)
        d_bias += dot(ones, dy)  # undoes (2): the sum of all rows, as a product
        d_weight += dot(dy.T, cache.x)  # undoes (1), towards W
        dx: Array = dot(dy, weight)  # undoes (1), towards x
        return dx

    def check_forward(self, x: Array) -> None:
        """See :class:`Layer`."""
        self.expect("x", x, None, self.in_features)

    def check_backward(self, dy: Array, cache: LinearCache) -> None:
        """See :class:`Layer`."""
        require_cache(cache, LinearCache)
        self.expect("x of the cache", cache.x, None, self.in_features)
        self.expect("dy", dy, len(cache.x), self.out_features)
