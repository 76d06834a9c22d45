"""ReLU."""

from __future__ import annotations

from npnlp.backend import Array
from npnlp.layers.arguments import require_cache
from npnlp.layers.base import Cache, Layer


class ReLUCache(Cache):
    """``active``: where the input was above zero."""

    active: Array


class ReLU(Layer):
    """``y = max(x, 0)``; backward ``dx = dy`` where ``x > 0``, else 0 (also at ``x = 0``).

    For a complex x, whose imaginary part is a direction of change, the real part decides.
    """

    def forward(self, x: Array) -> tuple[Array, ReLUCache]:
        """Apply to every element."""
        return self.backend.xp.maximum(x, 0), ReLUCache(x.real > 0)  # (1)

    def backward(self, dy: Array, cache: ReLUCache) -> Array:
        """Return ``dL/dx``."""
        return dy * cache.active  # undoes (1)

    def check_forward(self, x: Array) -> None:
        """See :class:`Layer`."""
        self.expect("x", x, ...)

    def check_backward(self, dy: Array, cache: ReLUCache) -> None:
        """See :class:`Layer`."""
        require_cache(cache, ReLUCache)
        self.expect("dy", dy, *cache.active.shape)
