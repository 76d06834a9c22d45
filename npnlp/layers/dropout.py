"""Dropout (Srivastava et al., 2014), scaled in training so that evaluation does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

from npnlp.backend import Array, Random
from npnlp.checks import require_fraction
from npnlp.layers.base import Layer, LayerOptions


@dataclass(frozen=True)
class DropoutCache:
    """``scale``, shaped like x: 0 where dropped, ``1/(1-p)`` where kept; None in evaluation."""

    scale: Array | None


class Dropout(Layer):
    """``y = x m / (1 - p)``, ``m`` 1 with probability ``1 - p``, else 0; ``dx = dy m / (1 - p)``.

    Raises :class:`InputError` for a ``p`` outside ``[0, 1)``.
    """

    def __init__(self, p: float = 0.5, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        require_fraction("p of Dropout", p)
        self.p = p

    def forward(self, x: Array, random: Random | None = None) -> tuple[Array, DropoutCache]:
        """Drop elements as ``random`` says; without it (evaluation) return ``x`` itself."""
        if random is None or self.p == 0.0:
            return x, DropoutCache(None)
        y, scale = self.backend.dropout(x, random, self.p)  # (1)
        return y, DropoutCache(scale)

    def backward(self, dy: Array, cache: DropoutCache) -> Array:
        """Return ``dL/dx``."""
        return dy if cache.scale is None else dy * cache.scale  # undoes (1)
