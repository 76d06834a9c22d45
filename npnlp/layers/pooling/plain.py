"""Poolings without parameters: the last state, the mean and the maximum of a sequence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Unpack

from npnlp.backend import Array
from npnlp.checks import require_whole
from npnlp.layers.arguments import require_cache, require_packing, require_rows
from npnlp.layers.base import Cache, Layer, LayerOptions
from npnlp.layers.packing import Packing
from npnlp.layers.pooling.per_sequence import spread, total


class Pooling(Layer, ABC):
    """Base of all poolings: ``features`` is D, the size of a hidden state and of the result."""

    #: The type of its cache, which has the ``packing``.
    cache: ClassVar[type] = type(None)

    def __init__(self, features: int, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        require_whole("features", features)
        self.features = features

    @abstractmethod
    def forward(self, hidden: Array, h_last: Array, *, packing: Packing) -> tuple[Array, Any]:
        """``y (B, D)``, in the caller's order, of packed ``hidden (N, D)`` and ``h_last (B, D)``.

        These are the two outputs of a recurrent layer. Raises :class:`InputError` where ``hidden``
        is not packed by ``packing``.
        """

    @abstractmethod
    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Array | None]:
        """``(dL/dhidden (N, D), dL/dh_last (B, D))``; None for an input that is not used."""

    def check_forward(self, hidden: Array, h_last: Array, *, packing: Packing) -> None:
        """See :class:`Layer`."""
        require_rows(hidden, packing, "hidden")
        self.expect("hidden", hidden, packing.rows, self.features)

    def check_backward(self, dy: Array, cache: Any) -> None:
        """See :class:`Layer`."""
        require_cache(cache, self.cache)
        self.expect("dy", dy, cache and len(cache.packing.lengths), self.features)


class LastPooling(Pooling):
    """``y = h_last``; backward ``dh_last = dy``."""

    def forward(self, hidden: Array, h_last: Array, *, packing: Packing) -> tuple[Array, None]:
        """See :meth:`Pooling.forward`; a copy needs no cache."""
        return h_last, None  # (1)

    def check_forward(self, hidden: Array, h_last: Array, *, packing: Packing) -> None:
        """See :class:`Layer`; ``hidden`` is not used."""
        require_packing(packing)
        self.expect("h_last", h_last, len(packing.lengths), self.features)

    def backward(self, dy: Array, cache: None) -> tuple[None, Array]:
        """See :meth:`Pooling.backward`."""
        return None, dy  # undoes (1)


class MeanPoolingCache(Cache):
    """``scale (B, 1)``: one over each sequence's length; ``packing``."""

    scale: Array
    packing: Packing


class MeanPooling(Pooling):
    """``y_b = sum_t h_tb / L_b``; backward ``dh_tb = dy_b / L_b``."""

    cache = MeanPoolingCache

    def forward(
        self, hidden: Array, h_last: Array, *, packing: Packing
    ) -> tuple[Array, MeanPoolingCache]:
        """See :meth:`Pooling.forward`."""
        scale = self.backend.asarray(1.0 / packing.lengths[:, None], dtype=hidden.dtype)
        sums = total(hidden, packing)  # (1)
        return sums * scale, MeanPoolingCache(scale, packing)  # (2)

    def backward(self, dy: Array, cache: MeanPoolingCache) -> tuple[Array, None]:
        """See :meth:`Pooling.backward`."""
        d_sums = dy * cache.scale  # undoes (2)
        return spread(d_sums, cache.packing), None  # undoes (1)


class MaxPoolingCache(Cache):
    """``entries (B, D)``: the index of each maximum in the flattened ``hidden``; ``packing``."""

    entries: Array
    packing: Packing


class MaxPooling(Pooling):
    """``y_bd = max_t h_tbd``; backward: ``dy_bd`` to the first step that has the maximum.

    As PyTorch's ``max(dim)``. Complex states, whose imaginary part is the direction of a complex
    step, are compared by their real part.
    """

    cache = MaxPoolingCache

    def forward(
        self, hidden: Array, h_last: Array, *, packing: Packing
    ) -> tuple[Array, MaxPoolingCache]:
        """See :meth:`Pooling.forward`."""
        rows = packing.unsort(self.backend.first_largest(hidden.real, packing))  # (1)
        entries = rows * self.features + self.backend.xp.arange(self.features)
        return hidden.reshape(-1).take(entries), MaxPoolingCache(entries, packing)  # (2)

    def backward(self, dy: Array, cache: MaxPoolingCache) -> tuple[Array, None]:
        """See :meth:`Pooling.backward`."""
        rows = cache.packing.rows
        d_hidden = self.backend.zeros((rows * self.features,), dy.dtype)
        # No index occurs twice: sequences share no row, and features share no column.
        d_hidden[cache.entries.reshape(-1)] = dy.reshape(-1)  # undoes (2)
        return d_hidden.reshape(rows, self.features), None
