"""Poolings without parameters: the last state, the mean and the maximum of a sequence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Unpack

from npnlp.backend import Array
from npnlp.layers.base import Cache, Layer, LayerOptions
from npnlp.layers.packing import Packing
from npnlp.layers.pooling.per_sequence import padded_with_lowest, require_rows, spread, total


class Pooling(Layer, ABC):
    """What all poolings share: ``features`` is D, the size of a hidden state and of the result."""

    def __init__(self, features: int, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.features = features

    @abstractmethod
    def forward(self, hidden: Array, h_last: Array, *, packing: Packing) -> tuple[Array, Any]:
        """``y (B, D)``, in the caller's order, of packed ``hidden (N, D)`` and ``h_last (B, D)``.

        These are the two outputs of a recurrent layer. Raises :class:`InputError` where ``hidden``
        is not packed by ``packing``.
        """

    @abstractmethod
    def backward(self, dy: Array, cache: Any) -> tuple[Array | None, Array | None]:
        """``(dL/dhidden (N, D), dL/dh_last (B, D))``; None for the one that is not used."""


class LastPoolingCache(Cache):
    """Nothing: the derivative of a copy needs no memory."""


class LastPooling(Pooling):
    """``y = h_last``; backward ``dh_last = dy``."""

    def forward(
        self, hidden: Array, h_last: Array, *, packing: Packing
    ) -> tuple[Array, LastPoolingCache]:
        """See :meth:`Pooling.forward`."""
        return h_last, LastPoolingCache()  # (1)

    def backward(self, dy: Array, cache: LastPoolingCache) -> tuple[None, Array]:
        """See :meth:`Pooling.backward`."""
        return None, dy  # undoes (1)


class MeanPoolingCache(Cache):
    """``shares (B, 1)``: one over each sequence's length; ``packing``."""

    shares: Array
    packing: Packing


class MeanPooling(Pooling):
    """``y_b = sum_t h_tb / L_b``; backward ``dh_tb = dy_b / L_b``."""

    def forward(
        self, hidden: Array, h_last: Array, *, packing: Packing
    ) -> tuple[Array, MeanPoolingCache]:
        """See :meth:`Pooling.forward`."""
        require_rows(hidden, packing, "hidden")
        shares = self.backend.asarray(1.0 / packing.lengths[:, None], dtype=hidden.dtype)
        sums = total(hidden, packing)  # (1)
        return sums * shares, MeanPoolingCache(shares, packing)  # (2)

    def backward(self, dy: Array, cache: MeanPoolingCache) -> tuple[Array, None]:
        """See :meth:`Pooling.backward`."""
        d_sums = dy * cache.shares  # undoes (2)
        return spread(d_sums, cache.packing), None  # undoes (1)


class MaxPoolingCache(Cache):
    """``rows (B, D)``: the packed row that each maximum stands in; ``size``, which is N."""

    rows: Array
    size: int


class MaxPooling(Pooling):
    """``y_bd = max_t h_tbd``; backward: ``dy_bd`` to the first step where the maximum stands.

    As PyTorch's ``max(dim)``. For complex states, whose imaginary part is a direction of change,
    the real part decides.
    """

    def forward(
        self, hidden: Array, h_last: Array, *, packing: Packing
    ) -> tuple[Array, MaxPoolingCache]:
        """See :meth:`Pooling.forward`."""
        require_rows(hidden, packing, "hidden")
        steps = padded_with_lowest(hidden, packing).argmax(axis=0)  # (1), the first of several
        rows = self._starts(packing).take(steps) + self._places(packing)
        y = hidden.reshape(-1).take(self._flat(rows))  # (2)
        return y, MaxPoolingCache(rows, len(hidden))

    def backward(self, dy: Array, cache: MaxPoolingCache) -> tuple[Array, None]:
        """See :meth:`Pooling.backward`."""
        d_hidden = self.backend.zeros((cache.size * self.features,), dy.dtype)
        # No place is named twice: sequences share no row, and features no column.
        d_hidden[self._flat(cache.rows).reshape(-1)] = dy.reshape(-1)  # undoes (2)
        return d_hidden.reshape(cache.size, self.features), None

    def _starts(self, packing: Packing) -> Array:
        """``(T,)``: the row that each step begins at."""
        return self.backend.xp.array(packing.offsets)  # type: ignore[no-any-return]

    def _places(self, packing: Packing) -> Array:
        """``(B, 1)``: how many rows after that each sequence stands, in the caller's order."""
        batch = len(packing.lengths)
        return packing.unsort(self.backend.xp.arange(batch))[:, None]

    def _flat(self, rows: Array) -> Array:
        """Where entry d of row ``rows[b, d]`` lies in ``hidden`` without its shape."""
        flat: Array = rows * self.features + self.backend.xp.arange(self.features)
        return flat
