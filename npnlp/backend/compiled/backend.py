"""NumPy's arrays, with Numba's loops where NumPy's calls cost more than their work."""

from __future__ import annotations

import os
from typing import Any

import numba
import numpy as np
import scipy
from scipy.linalg import cython_blas  # noqa: F401  what Numba's np.dot calls: loaded here, and now

from npnlp.backend.base import Array, Head, Learned
from npnlp.backend.compiled import layout, learning, linear, philox, products, sums
from npnlp.backend.compiled.inference.passes import WALKS, CompiledPasses
from npnlp.backend.compiled.loops import recurrence
from npnlp.backend.compiled.threads.sharing import share
from npnlp.backend.compiled.vectors import elementwise
from npnlp.backend.layout import Integers, Layout, Numbered
from npnlp.backend.numpy_backend import NumpyBackend
from npnlp.backend.plain import AdamNumbers
from npnlp.backend.prefix_passes import PrefixPasses
from npnlp.backend.random import Random, keep_threshold
from npnlp.backend.threads import THREAD_VARIABLES, threads_now

NO_ROWS = np.empty(0, dtype=np.intp)
#: The types that loops are compiled for, as NumPy abbreviates them: float32 and float64.
REALS = "fd"


class CompiledBackend(NumpyBackend):
    """Arrays are ``numpy.ndarray``; float32 and float64 go through compiled loops.

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

    def affine(self, x: Array, weight: Array, bias: Array, groups: int = 1) -> Array:
        """See :meth:`Backend.affine`."""
        if groups == 1 and self._is_small(x, weight) and _plain(x, weight, bias):
            y = np.empty((len(x), len(weight)), dtype=x.dtype)
            linear.affine(x, weight, bias, y)
            return y
        if not _real(x, weight, bias):
            return super().affine(x, weight, bias, groups)
        out = np.empty((groups, len(x), len(weight) // groups), dtype=x.dtype)
        share(products.affine, (x, weight.T, bias.reshape(groups, -1), out), out.shape[2],
              groups * x.size)  # fmt: skip
        return out if groups > 1 else out[0]

    def affine_backward(
        self, dy: Array, x: Array, weight: Array, d_weight: Array, d_bias: Array
    ) -> Array:
        """See :meth:`Backend.affine_backward`."""
        arrays = dy, x, weight, d_weight, d_bias
        if self._is_small(x, weight) and _plain(*arrays):
            dx = np.empty_like(x)
            linear.affine_backward(*arrays, dx)
            return dx
        if not _real(*arrays) or not d_weight.flags.c_contiguous:
            return super().affine_backward(*arrays)
        dx = np.empty((len(dy), weight.shape[1]), dtype=dy.dtype)
        arrays = dy, np.ascontiguousarray(x), weight, d_weight, d_bias
        share(products.affine_backward, (*arrays, dx), weight.shape[1], 2 * dy.size)
        return dx

    def _is_small(self, x: Array, weight: Array) -> bool:
        """Whether BLAS multiplies ``x W^T`` as fast, because it copies nothing either."""
        return x.size * len(weight) <= self.small_product

    def add_outer(self, out: Array, left: Array, right: Array, rows: Array | None = None) -> None:
        """See :meth:`Backend.add_outer`."""
        if not _real(out, left, right) or not out.flags.c_contiguous:
            super().add_outer(out, left, right, rows)
            return
        if len(left):
            arrays = left, np.ascontiguousarray(right), NO_ROWS if rows is None else rows, out
            share(products.add_outer, arrays, len(out), len(left) * right.shape[1])

    def add_rows(self, table: Array, rows: Array | slice, values: Array) -> None:
        """See :meth:`Backend.add_rows`."""
        if isinstance(rows, slice) or not _plain(table, values) or table.ndim != 2:
            super().add_rows(table, rows, values)
            return
        sums.add_rows(table, rows, values)

    def dropout(self, x: Array, random: Random, p: float) -> tuple[Array, Array]:
        """See :meth:`Backend.dropout`."""
        if not _plain(x) or random.share is not None:
            return super().dropout(x, random, p)
        y, scale = np.empty_like(x), np.empty_like(x)
        step = np.uint64(random.step)
        philox.dropout(x, random.key, step, keep_threshold(p), 1.0 / (1.0 - p), y, scale)
        return y, scale

    def relu(self, x: Array) -> tuple[Array, Array]:
        """See :meth:`Backend.relu`."""
        if not _plain(x):
            return super().relu(x)
        y, active = np.empty_like(x), np.empty_like(x)
        elementwise.relu(x, y, active)
        return y, active

    def count_correct(self, logits: Array, targets: Array) -> Any:
        """See :meth:`Backend.count_correct`."""
        if not _plain(logits):
            return super().count_correct(logits, targets)
        return np.int64(sums.count_correct(logits, targets))

    def square_sums(self, values: Array, ends: Integers) -> Array:
        """See :meth:`Backend.square_sums`."""
        if not _plain(values):
            return super().square_sums(values, ends)
        found = np.empty(len(ends), dtype=values.dtype)
        sums.square_sums(values, ends, found)
        return found

    def softmax_losses_backward(
        self, d_losses: Array | float, probabilities: Array, targets: Array
    ) -> Array:
        """See :meth:`Backend.softmax_losses_backward`."""
        if not _plain(probabilities):
            return super().softmax_losses_backward(d_losses, probabilities, targets)
        d, d_logits = np.asarray(d_losses, probabilities.dtype), np.empty_like(probabilities)
        sums.softmax_losses_backward(d.reshape(-1), probabilities, targets, d_logits)
        return d_logits

    def softmax_losses(self, logits: Array, targets: Array) -> tuple[Array, Array]:
        """See :meth:`Backend.softmax_losses`."""
        if not _plain(logits):
            return super().softmax_losses(logits, targets)
        probabilities, losses = np.empty_like(logits), np.empty(len(logits), dtype=logits.dtype)
        sums.softmax_losses(logits, targets, probabilities, losses)
        return probabilities, losses

    def adam_step(
        self, values: Array, grads: Array, moments: tuple[Array, Array], scratch: Array,
        numbers: AdamNumbers,
    ) -> None:  # fmt: skip
        """See :meth:`Backend.adam_step`. One pass over the buffers; ``scratch`` is not used."""
        if not _plain(values, grads, *moments):
            super().adam_step(values, grads, moments, scratch, numbers)
            return
        sums.adam_step(values, grads, *moments, *numbers)

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

    def recurrent_layer(self, kind: str, dtype: Any) -> Any:
        """See :meth:`Backend.recurrent_layer`."""
        return recurrence if kind in recurrence.KINDS and dtype.char in REALS else None

    def classifier_head(self, dtype: np.dtype[Any]) -> Head | None:
        """See :meth:`Backend.classifier_head`. Several threads share products one by one."""
        return self._head if dtype.char in REALS and threads_now() == 1 else None

    def _head(
        self, h: Array, targets: Array, parameters: tuple[Array, ...], grads: tuple[Array, ...],
        streams: tuple[Random, Random], p: float,
    ) -> Learned:  # fmt: skip
        h, (first, second) = np.ascontiguousarray(h), streams
        logits = np.empty((len(h), len(parameters[2])), dtype=h.dtype)
        losses, d = np.empty(len(h), dtype=h.dtype), np.empty_like(h)
        arguments: Any = (
            h, targets, *parameters, *grads, first.key, second.key, np.uint64(first.step),
            keep_threshold(p), 1.0 / (1.0 - p), self.small_product, logits, losses, d,
        )  # fmt: skip
        correct = np.int64(learning.learn(*arguments))
        return Learned(logits, losses, correct, d)

    def prefix_passes(self, kind: str, dtype: np.dtype[Any]) -> PrefixPasses | None:
        """See :meth:`Backend.prefix_passes`."""
        return CompiledPasses(kind) if kind in WALKS and dtype.char in REALS else None

    def describe(self) -> dict[str, str]:
        """See :meth:`Backend.describe`."""
        return super().describe() | {"numba": numba.__version__, "scipy": scipy.__version__}


def _real(*arrays: Array) -> bool:
    """Whether all are of one real type."""
    dtype = arrays[0].dtype
    for array in arrays:  # which takes a third of what all() does
        if array.dtype != dtype:
            return False
    return dtype.char in REALS


def _plain(*arrays: Array) -> bool:
    """Whether all are of one real type, and each in one piece."""
    dtype = arrays[0].dtype
    for array in arrays:
        if array.dtype is not dtype or not array.flags.c_contiguous:
            return False
    return dtype.char in REALS


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
