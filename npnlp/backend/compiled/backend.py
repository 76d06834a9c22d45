"""The Numba backend: NumPy arrays, and compiled loops for float32 and float64."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numba
import numpy as np
import scipy
from scipy.linalg import cython_blas  # noqa: F401  needed by Numba's np.dot

from npnlp.backend.base import Array
from npnlp.backend.compiled import layout, learning, philox, sums
from npnlp.backend.compiled.dtypes import (
    REALS,
    are_contiguous_reals,
    are_reals,
    plain,
    plain_indices,
)
from npnlp.backend.compiled.inference.passes import WALKS, CompiledPrefixPasses
from npnlp.backend.compiled.loops.recurrence import LOOPS, CompiledPasses
from npnlp.backend.compiled.maps import CompiledMaps
from npnlp.backend.compiled.rows import CompiledRows
from npnlp.backend.compiled.vectors.kernel import is_stored
from npnlp.backend.layout import AnyIntegers, Integers, Layout, Numbered
from npnlp.backend.numpy_backend import ONE_HOT_LIMIT, NumpyBackend
from npnlp.backend.operations import (
    AdamNumbers,
    AdamStep,
    ClassifierHead,
    CrossEntropyPasses,
    Learned,
    LinearPasses,
    RecurrentPasses,
    RowAdam,
)
from npnlp.backend.prefix_passes import PrefixPasses
from npnlp.backend.random import Random, keep_threshold
from npnlp.backend.threads import limit_what_was_loaded, threads_now
from npnlp.backend.tuned.loop import CELLS, TunedPasses

MAPS = CompiledMaps(np, NumpyBackend.small_product)


class CompiledBackend(NumpyBackend):
    """Arrays are ``numpy.ndarray``; float32 and float64 go through compiled loops.

    Other types, and operations without a compiled loop, are those of :class:`NumpyBackend`.
    """

    name = "numba"

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self._large = False
        limit_what_was_loaded()  # SciPy's own copy of BLAS

    def segment_sum(self, values: Array, segments: Array, size: int) -> Array:
        """See :meth:`Backend.segment_sum`."""
        if not are_reals(values):
            return super().segment_sum(values, segments, size)
        out = np.zeros((size, values.shape[1]), dtype=values.dtype)
        sums.segment_sum(plain(values), plain_indices(segments), out)
        return out

    def add_rows(self, table: Array, rows: Array | slice, values: Array) -> None:
        """See :meth:`Backend.add_rows`."""
        if isinstance(rows, slice) or not are_contiguous_reals(table, values) or table.ndim != 2:
            super().add_rows(table, rows, values)
            return
        sums.add_rows(table, plain_indices(rows), values)

    def scatter_add(self, table: Array, rows: Array, values: Array) -> None:
        """See :meth:`Backend.scatter_add`: rows are added in the order of n."""
        few = len(table) <= ONE_HOT_LIMIT
        if few or not are_contiguous_reals(table) or values.dtype != table.dtype:
            super().scatter_add(table, rows, values)
            return
        sums.add_rows(table, plain_indices(rows), plain(values))

    def dropout(self, x: Array, random: Random, p: float) -> tuple[Array, Array]:
        """See :meth:`Backend.dropout`."""
        if not are_contiguous_reals(x) or random.share is not None:
            return super().dropout(x, random, p)
        y, scale = np.empty_like(x), np.empty_like(x)
        step = np.uint64(random.step)
        philox.dropout(x, random.key, step, keep_threshold(p), 1.0 / (1.0 - p), y, scale)
        return y, scale

    def square_sums(self, values: Array, ends: Integers) -> Array:
        """See :meth:`Backend.square_sums`."""
        if not are_contiguous_reals(values):
            return super().square_sums(values, ends)
        found = np.empty(len(ends), dtype=values.dtype)
        sums.square_sums(values, ends, found)
        return found

    def linear_passes(self, dtype: np.dtype[Any]) -> LinearPasses | None:
        """See :meth:`Backend.linear_passes`."""
        return MAPS if dtype.char in REALS else None

    def cross_entropy_passes(self, dtype: np.dtype[Any]) -> CrossEntropyPasses | None:
        """See :meth:`Backend.cross_entropy_passes`."""
        return CompiledCrossEntropy() if dtype.char in REALS else None

    def adam_step(self, dtype: np.dtype[Any]) -> AdamStep | None:
        """See :meth:`Backend.adam_step`. One pass over the buffers; ``scratch`` is not used."""
        return compiled_adam if dtype.char in REALS else super().adam_step(dtype)

    def row_adam(self, dtype: np.dtype[Any]) -> RowAdam | None:
        """See :meth:`Backend.row_adam`."""
        return CompiledRows() if dtype.char in REALS else super().row_adam(dtype)

    def lay_out(self, lengths: Integers) -> Layout:
        """See :meth:`Backend.lay_out`."""
        ends = lengths.sum(axis=1).cumsum()
        runs = np.zeros((len(lengths), 2, lengths[:, 0].max()), dtype=np.int32)
        last, previous = np.empty_like(lengths), np.empty(ends[-1], dtype=np.int64)
        layout.lay_out(plain(lengths), runs, last, previous)
        return Layout(runs, last, previous, ends)

    def number(self, tokens: AnyIntegers, starts: Integers, where: Layout) -> Numbered:
        """See :meth:`Backend.number`."""
        numbers, vocabulary = np.empty((2, where.ends[-1]), dtype=np.int64)
        ends = np.empty_like(where.ends)
        layout.number(plain(tokens), plain(starts), plain(where.runs), numbers, vocabulary, ends)
        return Numbered(numbers, vocabulary[: ends[-1]], ends)

    def recurrent_passes(
        self, kind: str, hidden_size: int, dtype: np.dtype[Any]
    ) -> RecurrentPasses | None:
        """See :meth:`Backend.recurrent_passes`."""
        compiled = kind in LOOPS and dtype.char in REALS
        return _passes(kind, hidden_size, compiled) if kind in CELLS else None

    def classifier_head(self, dtype: np.dtype[Any]) -> ClassifierHead | None:
        """See :meth:`Backend.classifier_head`. None with several threads, which share a layer."""
        return self._head if dtype.char in REALS and threads_now() == 1 else None

    def _head(
        self, h: Array, targets: Array, parameters: tuple[Array, ...], grads: tuple[Array, ...],
        streams: tuple[Random, Random], p: float,
    ) -> Learned:  # fmt: skip
        h, targets, (first, second) = plain(h), plain_indices(targets), streams
        logits = np.empty((len(h), len(parameters[2])), dtype=h.dtype)
        losses, d = np.empty(len(h), dtype=h.dtype), np.empty_like(h)
        # Code for large products is compiled once they are needed, and then stays in use.
        largest = max(parameters[0].size, parameters[2].size) * len(h)
        self._large = self._large or largest > self.small_product
        small = self.small_product if self._large else None
        arguments: Any = (
            h, targets, *parameters, *grads, first.key, second.key, np.uint64(first.step),
            keep_threshold(p), 1.0 / (1.0 - p), small, logits, losses, d,
        )  # fmt: skip
        correct = np.int64(learning.learn(*arguments))
        return Learned(logits, losses, losses.sum(), correct, d)

    def prefix_passes(self, kind: str, dtype: np.dtype[Any]) -> PrefixPasses | None:
        """See :meth:`Backend.prefix_passes`."""
        return CompiledPrefixPasses(kind) if kind in WALKS and dtype.char in REALS else None

    def is_compiled(self, cell: str) -> bool:
        """Whether layers of this cell were compiled before, so that training starts at once."""
        kind = "elman_tanh" if cell == "elman" else cell
        return kind in LOOPS and is_stored(LOOPS[kind][0].backward)

    def describe(self) -> dict[str, str]:
        """See :meth:`Backend.describe`."""
        return super().describe() | {"numba": numba.__version__, "scipy": scipy.__version__}


@lru_cache(maxsize=64)
def _passes(kind: str, hidden_size: int, compiled: bool) -> TunedPasses:
    """Cached: making them takes nearly as long as a step of a small layer."""
    passes = CompiledPasses if compiled else TunedPasses
    return passes(kind, hidden_size, MAPS, CompiledBackend().segment_sum)


class CompiledCrossEntropy:
    """See :class:`CrossEntropyPasses`."""

    def forward(self, logits: Array, targets: Array) -> tuple[Array, Array]:
        """See :meth:`CrossEntropyPasses.forward`."""
        logits, targets = plain(logits), plain_indices(targets)
        probabilities, losses = np.empty_like(logits), np.empty(len(logits), dtype=logits.dtype)
        sums.softmax_losses(logits, targets, probabilities, losses)
        return probabilities, losses

    def backward(self, d_losses: Array | float, probabilities: Array, targets: Array) -> Array:
        """See :meth:`CrossEntropyPasses.backward`."""
        d, d_logits = np.asarray(d_losses, probabilities.dtype), np.empty_like(probabilities)
        targets = plain_indices(targets)
        sums.softmax_losses_backward(d.reshape(-1), probabilities, targets, d_logits)
        return d_logits


def compiled_adam(
    values: Array, grads: Array, moments: tuple[Array, Array], scratch: Array,
    numbers: AdamNumbers,
) -> None:  # fmt: skip
    """See :data:`AdamStep`: one pass over the buffers, and ``scratch`` is not used."""
    sums.adam_step(values, grads, *moments, *numbers)
