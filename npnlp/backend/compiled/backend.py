"""NumPy's arrays, with Numba's loops where NumPy's calls cost more than their work."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled import products, recurrence, sums
from npnlp.backend.compiled.sharing import share
from npnlp.backend.numpy_backend import NumpyBackend
from npnlp.backend.plain import AdamNumbers

NO_ROWS = np.empty(0, dtype=np.intp)
REALS = (np.dtype("float32"), np.dtype("float64"))


class CompiledBackend(NumpyBackend):
    """Arrays are ``numpy.ndarray``; float32 and float64 go through compiled loops.

    For other types, and for what has no compiled loop, it is :class:`NumpyBackend`.
    """

    name = "numba"

    def segment_sum(self, values: Array, segments: Array, size: int) -> Array:
        """See :meth:`Backend.segment_sum`."""
        if not _real(values):
            return super().segment_sum(values, segments, size)
        out = np.zeros((size, values.shape[1]), dtype=values.dtype)
        sums.segment_sum(np.ascontiguousarray(values), np.ascontiguousarray(segments), out)
        return out

    def affine(self, x: Array, weight: Array, bias: Array, groups: int = 1) -> Array:
        """See :meth:`Backend.affine`."""
        if not all(map(_real, (x, weight, bias))):
            return super().affine(x, weight, bias, groups)
        out = np.empty((groups, len(x), len(weight) // groups), dtype=x.dtype)
        panels, biases = products.panels_of(weight.T, groups), bias.reshape(groups, -1)

        def work(low: int, high: int) -> None:
            products.affine(x, panels, biases, low, high, out)

        share(work, len(x), x.size * len(weight))
        return out if groups > 1 else out[0]

    def product(self, x: Array, weight: Array) -> Array:
        """See :meth:`Backend.product`."""
        return self.affine(x, weight.T, np.zeros(weight.shape[1], dtype=weight.dtype))

    def add_outer(self, out: Array, left: Array, right: Array, rows: Array | None = None) -> None:
        """See :meth:`Backend.add_outer`."""
        if not all(map(_real, (out, left, right))):
            super().add_outer(out, left, right, rows)
            return
        given = NO_ROWS if rows is None else rows

        def work(low: int, high: int) -> None:
            products.add_outer(left, right, given, low, high, out)

        share(work, len(out), left.size * out.shape[1])

    def softmax_losses(self, logits: Array, targets: Array) -> tuple[Array, Array]:
        """See :meth:`Backend.softmax_losses`."""
        if not _real(logits):
            return super().softmax_losses(logits, targets)
        logits, targets = np.ascontiguousarray(logits), np.ascontiguousarray(targets)
        probabilities, losses = np.empty_like(logits), np.empty(len(logits), dtype=logits.dtype)
        sums.softmax_losses(logits, targets, probabilities, losses)
        return probabilities, losses

    def adam_step(
        self, values: Array, grads: Array, moments: tuple[Array, Array], scratch: Array,
        numbers: AdamNumbers,
    ) -> None:  # fmt: skip
        """See :meth:`Backend.adam_step`. One pass over the buffers; ``scratch`` is not used."""
        arrays = (values, grads, *moments)
        if not all(_real(array) and array.flags.c_contiguous for array in arrays):
            super().adam_step(values, grads, moments, scratch, numbers)
            return
        sums.adam_step(*arrays, *map(values.dtype.type, numbers))

    def recurrence(self, kind: str, hidden_size: int, dtype: Any) -> Any:
        """See :meth:`Backend.recurrence`."""
        supported = kind in recurrence.KINDS and np.dtype(dtype) in REALS
        return recurrence if supported else None

    def describe(self) -> dict[str, str]:
        """See :meth:`Backend.describe`."""
        return super().describe() | {"numba": numba.__version__}


def _real(array: Array) -> bool:
    return array.dtype in REALS
