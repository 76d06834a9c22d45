"""Dropout: features set to zero at random while training, in two ways."""

from __future__ import annotations

from typing import Unpack

from npnlp.backend import Array, Random
from npnlp.checks import require_fraction
from npnlp.layers.arguments import require_cache, require_random, require_rows
from npnlp.layers.base import Cache, Layer, LayerOptions
from npnlp.layers.packing import Packing
from npnlp.layers.pooling.per_sequence import spread


class DropoutCache(Cache):
    """``scale``, shaped like x: 0 where dropped, ``1/(1-p)`` elsewhere; None in evaluation."""

    scale: Array | None


class _Dropping(Layer):
    """What both have in common; raises :class:`InputError` for a ``p`` outside ``[0, 1)``."""

    def __init__(self, p: float = 0.5, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        require_fraction(f"p of {type(self).__name__}", p)
        self.p = p

    def backward(self, dy: Array, cache: DropoutCache) -> Array:
        """Return ``dL/dx``."""
        return dy if cache.scale is None else dy * cache.scale  # undoes (1)

    def check_backward(self, dy: Array, cache: DropoutCache) -> None:
        """See :class:`Layer`."""
        require_cache(cache, DropoutCache)
        self.expect("dy", dy, *((...,) if cache.scale is None else cache.scale.shape))


class Dropout(_Dropping):
    """``y = x m / (1 - p)``, ``m`` 1 with probability ``1 - p``, else 0; ``dx = dy m / (1 - p)``.

    The division keeps the mean of ``y`` at that of ``x``, so evaluation drops nothing and scales
    nothing. Raises :class:`InputError` for a ``p`` outside ``[0, 1)``. Source: Srivastava et al.,
    "Dropout: a simple way to prevent neural networks from overfitting", 2014.
    """

    def forward(self, x: Array, random: Random | None = None) -> tuple[Array, DropoutCache]:
        """Drop entries of ``x`` as drawn from ``random``; without it (evaluation) return x."""
        if random is None or self.p == 0.0:
            return x, DropoutCache(None)
        y, scale = self.backend.dropout(x, random, self.p)  # (1)
        return y, DropoutCache(scale)

    def check_forward(self, x: Array, random: Random | None = None) -> None:
        """See :class:`Layer`."""
        require_random(random)
        self.expect("x", x, ...)


class VariationalDropout(_Dropping):
    """Dropout with one mask per sequence: ``y_tb = x_tb m_b / (1 - p)``.

    ``m_b (D,)`` is 1 with probability ``1 - p``, else 0; backward ``dx_tb = dy_tb m_b / (1 - p)``.
    A new mask at every step is noise that a recurrent layer accumulates over time; a fixed mask
    drops the same features at all steps. Row b of the mask belongs to sequence b in the caller's
    order. Raises :class:`InputError` for a ``p`` outside ``[0, 1)``. Source: Gal and Ghahramani,
    "A theoretically grounded application of dropout in recurrent neural networks", 2016, section 4.
    """

    def forward(
        self, x: Array, random: Random | None = None, *, packing: Packing
    ) -> tuple[Array, DropoutCache]:
        """Drop features of packed ``x (N, D)``; without ``random`` (evaluation) return x."""
        if random is None or self.p == 0.0:
            return x, DropoutCache(None)
        mask = self.backend.keep_mask(random, (len(packing.lengths), x.shape[1]), self.p)
        scale = spread(mask * self.dtype.type(1.0 / (1.0 - self.p)), packing)
        return x * scale, DropoutCache(scale)  # (1)

    def check_forward(self, x: Array, random: Random | None = None, *, packing: Packing) -> None:
        """See :class:`Layer`."""
        require_random(random)
        require_rows(x, packing)
        self.expect("x", x, packing.rows, None)
