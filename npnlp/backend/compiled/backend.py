"""NumPy's arrays, with Numba's loops where NumPy's calls cost more than their work."""

from __future__ import annotations

import os
from typing import Any

import numba
import numpy as np
import scipy
from scipy.linalg import cython_blas  # noqa: F401  what Numba's np.dot calls: loaded here, and now

from npnlp.backend.base import Array
from npnlp.backend.compiled import layout, recurrence, sums
from npnlp.backend.layout import Integers, Layout, Numbered
from npnlp.backend.numpy_backend import NumpyBackend
from npnlp.backend.plain import AdamNumbers
from npnlp.backend.threads import THREAD_VARIABLES

REALS = (np.dtype("float32"), np.dtype("float64"))


class CompiledBackend(NumpyBackend):
    """Arrays are ``numpy.ndarray``; float32 and float64 go through compiled loops on one core.

    For other types, and for what has no compiled loop, it is :class:`NumpyBackend`.
    """

    name = "numba"

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        _one_thread_for_scipy()

    def segment_sum(self, values: Array, segments: Array, size: int) -> Array:
        """See :meth:`Backend.segment_sum`."""
        if not _real(values):
            return super().segment_sum(values, segments, size)
        out = np.zeros((size, values.shape[1]), dtype=values.dtype)
        sums.segment_sum(np.ascontiguousarray(values), np.ascontiguousarray(segments), out)
        return out

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

    def lay_out(self, lengths: Integers) -> Layout:
        """See :meth:`Backend.lay_out`."""
        ends = lengths.sum(axis=1).cumsum()
        runs = np.zeros((len(lengths), 2, lengths[:, 0].max()), dtype=np.int32)
        last, previous = np.empty_like(lengths), np.empty(ends[-1], dtype=np.int64)
        layout.lay_out(lengths, runs, last, previous)
        return Layout(runs, last, previous, ends)

    def number(self, tokens: Integers, starts: Integers, where: Layout) -> Numbered:
        """See :meth:`Backend.number`."""
        numbers, vocabulary = np.empty((2, where.ends[-1]), dtype=np.int64)
        ends = np.empty_like(where.ends)
        layout.number(tokens, starts, where.runs, numbers, vocabulary, ends)
        return Numbered(numbers, vocabulary[: ends[-1]], ends)

    def recurrence(self, kind: str, hidden_size: int, dtype: Any) -> Any:
        """See :meth:`Backend.recurrence`."""
        supported = kind in recurrence.KINDS and np.dtype(dtype) in REALS
        return recurrence if supported else None

    def describe(self) -> dict[str, str]:
        """See :meth:`Backend.describe`."""
        return super().describe() | {"numba": numba.__version__, "scipy": scipy.__version__}


def _real(array: Array) -> bool:
    return array.dtype in REALS


def _one_thread_for_scipy() -> None:
    """One thread for SciPy's own copy of BLAS, unless the environment asks for another number.

    It is loaded after a limit was set to the copy that NumPy has (:mod:`npnlp.backend.threads`).
    """
    from threadpoolctl import ThreadpoolController

    if any(name in os.environ for name in THREAD_VARIABLES):
        return
    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        if "scipy" in library.filepath:
            library.set_num_threads(1)
