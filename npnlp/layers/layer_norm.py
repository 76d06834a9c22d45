"""Layer normalization: each row gets mean 0 and variance 1, and is then scaled and shifted.

    (1)  c = x - mean(x)
    (2)  v = mean(c^2)
    (3)  r = 1 / sqrt(v + eps)
    (4)  z = c r
    (5)  y = w z + b

Means are over the D features of one row. Backward, with ``dz = w dy``:

    undoes (4)   dc = r dz,  dr = sum(c dz)
    undoes (3)   dv = -r^3 dr / 2
    undoes (2)   dc gets 2 c dv / D = -r z mean(z dz)
    undoes (1)   dx = dc - mean(dc) = r (dz - mean(dz) - z mean(z dz))      since mean(z) = 0

Source: Ba, Kiros and Hinton, "Layer normalization", 2016, equation 3; equal to PyTorch's
``nn.LayerNorm``.
"""

from __future__ import annotations

from typing import Unpack

from npnlp.backend import Array
from npnlp.checks import require_not_negative, require_whole
from npnlp.layers.arguments import require_cache
from npnlp.layers.base import Cache, Layer, LayerOptions


class LayerNormCache(Cache):
    """``z (..., D)``, the normalized rows; ``r (..., 1)``, see (3)."""

    z: Array
    r: Array


class LayerNorm(Layer):
    """``y = w (x - mean(x)) / sqrt(var(x) + eps) + b`` over the last axis of x.

    Shapes: x and y ``(..., D)``; ``weight (D,)`` starts at one, ``bias (D,)`` at zero;
    ``normalized_size`` is D. The variance is the biased one, the mean of squares.
    """

    def __init__(
        self, normalized_size: int, eps: float = 1e-5, **options: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**options)
        require_whole("normalized_size", normalized_size)
        require_not_negative("eps", eps)
        self.normalized_size, self.eps = normalized_size, eps
        size = (normalized_size,)
        self.add_parameter("weight", lambda random: random.uniform(size, 1.0, 1.0))  # ones
        self.add_parameter("bias", lambda random: random.uniform(size, 0.0, 0.0))  # zeros

    def forward(self, x: Array) -> tuple[Array, LayerNormCache]:
        """Normalize every row. Raises :class:`InputError` for rows of another size."""
        z = x - x.mean(axis=-1, keepdims=True)  # (1)
        v = (z * z).mean(axis=-1, keepdims=True)  # (2)
        r = 1 / self.backend.xp.sqrt(v + self.eps)  # (3)
        z *= r  # (4)
        y = z * self.parameters["weight"]  # (5)
        y += self.parameters["bias"]
        return y, LayerNormCache(z, r)

    def backward(self, dy: Array, cache: LayerNormCache) -> Array:
        """Add ``dL/dw`` and ``dL/db``; return ``dL/dx``."""
        z, size = cache.z, self.normalized_size
        self.grads["bias"] += dy.reshape(-1, size).sum(axis=0)  # undoes (5)
        self.grads["weight"] += (dy * z).reshape(-1, size).sum(axis=0)  # undoes (5), towards w
        dx = dy * self.parameters["weight"]  # undoes (5), towards z
        along = (dx * z).mean(axis=-1, keepdims=True)
        dx -= dx.mean(axis=-1, keepdims=True)  # undoes (1)
        dx -= z * along  # undoes (3), (2)
        dx *= cache.r  # undoes (4)
        return dx

    def check_forward(self, x: Array) -> None:
        """See :class:`Layer`."""
        self.expect("x", x, ..., self.normalized_size)

    def check_backward(self, dy: Array, cache: LayerNormCache) -> None:
        """See :class:`Layer`."""
        require_cache(cache, LayerNormCache)
        self.expect("z of the cache", cache.z, ..., self.normalized_size)
        self.expect("dy", dy, *cache.z.shape)
