"""Variational dropout: one mask a sequence, the same at all its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

from npnlp.backend import Array, Random
from npnlp.checks import require_fraction
from npnlp.layers.base import Layer, LayerOptions
from npnlp.layers.packing import Packing
from npnlp.layers.pooling.per_sequence import require_rows, spread


@dataclass(frozen=True)
class VariationalDropoutCache:
    """``scale (N, D)``: 0 where dropped, ``1/(1-p)`` where kept; None in evaluation."""

    scale: Array | None


class VariationalDropout(Layer):
    """``y_tb = x_tb m_b / (1 - p)``, ``m_b (D,)`` 1 with probability ``1 - p``, else 0.

    Backward: ``dx_tb = dy_tb m_b / (1 - p)``. A mask drawn anew at every step would be noise that
    a recurrent layer adds up over time; one that stays drops the same features of the whole
    sequence. Row b of the mask is that of the caller's sequence b. Source: Gal and Ghahramani, "A
    theoretically grounded application of dropout in recurrent neural networks", 2016, section 4.

    Raises :class:`InputError` for a ``p`` outside ``[0, 1)``.
    """

    def __init__(self, p: float = 0.5, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        require_fraction("p of VariationalDropout", p)
        self.p = p

    def forward(
        self, x: Array, random: Random | None = None, *, packing: Packing
    ) -> tuple[Array, VariationalDropoutCache]:
        """Drop features of packed ``x (N, D)``; without ``random`` (evaluation) return x itself."""
        if random is None or self.p == 0.0:
            return x, VariationalDropoutCache(None)
        require_rows(x, packing)
        keep = self.backend.keep_mask(random, (len(packing.lengths), x.shape[1]), self.p)
        scale = spread(keep * self.dtype.type(1.0 / (1.0 - self.p)), packing)
        return x * scale, VariationalDropoutCache(scale)  # (1)

    def backward(self, dy: Array, cache: VariationalDropoutCache) -> Array:
        """Return ``dL/dx``."""
        return dy if cache.scale is None else dy * cache.scale  # undoes (1)
