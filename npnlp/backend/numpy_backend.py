"""NumPy on the CPU: the reference that every other backend has to equal."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.base import Array, Backend
from npnlp.backend.operations import AdamStep, ClassifierHead, RecurrentPasses, RowAdam
from npnlp.backend.random import Random
from npnlp.backend.threads import blas_in_use
from npnlp.backend.tuned.adam import adam_step
from npnlp.backend.tuned.head import TunedHead
from npnlp.backend.tuned.loop import CELLS, TunedPasses
from npnlp.backend.tuned.maps import AffineMaps
from npnlp.backend.tuned.rows import TunedRows

# Up to this many segments a segment sum is a matrix product with a one-hot matrix, which BLAS
# computes faster than a sort and a reduction.
ONE_HOT_LIMIT = 96
# Rows of that matrix computed at a time: they stay in a core's cache.
ONE_HOT_ROWS = 2048
# Of rows in the order of their segments: of few, the product has few segments.
ROWS_IN_ORDER = 64
# With FEW rows for each segment, of WIDE numbers or more, rows are added in groups of 4 before that
# product, with MANY in groups of 8: half of the time for 553 rows of 256 numbers in 46 segments.
FEW, MANY, WIDE = 4, 16, 128
# Bytes of a cache line.
CACHE_LINE = 64
# Of glibc's mallopt: two settings, and the value of the first that means never.
M_TRIM_THRESHOLD, M_MMAP_MAX, NEVER = -1, -4, -1


class NumpyBackend(Backend):
    """Arrays are ``numpy.ndarray`` in host memory."""

    name = "numpy"
    xp = np
    #: Up to this size OpenBLAS with AVX-512 does not pack its matrices: it is a third faster, and
    #: twice as fast for few rows and a large matrix.
    small_product = 10**6

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def asarray(self, host: NDArray[Any], dtype: Any = None) -> Array:
        """See :meth:`Backend.asarray`."""
        return np.asarray(host, dtype=dtype)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """See :meth:`Backend.to_numpy`."""
        return array

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """See :meth:`Backend.zeros`; aligned to a cache line.

        A vector across two cache lines costs a tenth in NumPy, and a factor of two in compiled
        loops.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        room = self.xp.zeros(size + CACHE_LINE, dtype=np.uint8)
        start = -room.ctypes.data % CACHE_LINE
        zeros: Array = room[start : start + size].view(dtype).reshape(shape)
        return zeros

    def segment_sum(self, values: Array, segments: Array, size: int) -> Array:
        """See :meth:`Backend.segment_sum`."""
        if size <= ONE_HOT_LIMIT:
            return _sum_by_product(values, segments, size)
        out = np.zeros((size, values.shape[1]), dtype=values.dtype)
        self.scatter_add(out, segments, values)
        return out

    def add_rows(self, table: Array, rows: Array | slice, values: Array) -> None:
        """See :meth:`Backend.add_rows`. To look rows up with ``take`` is twice as fast."""
        if isinstance(rows, slice):
            super().add_rows(table, rows, values)
            return
        sums = table.take(rows, axis=0)
        sums += values
        table[rows] = sums

    def scatter_add(self, table: Array, rows: Array, values: Array) -> None:
        """See :meth:`Backend.scatter_add`."""
        if len(table) <= ONE_HOT_LIMIT:
            super().scatter_add(table, rows, values)
            return
        if len(rows):
            found, sums = _sums_in_order(values, rows)
            table[found] += sums

    def all_below(self, indices: Array, size: int) -> bool:
        """See :meth:`Backend.all_below`. In one pass: without its sign, a negative is large."""
        if indices.dtype != np.int64 or not indices.size:
            return super().all_below(indices, size)
        unsigned = indices.view(np.uint64)
        return bool(unsigned[unsigned.argmax()] < size)

    def recurrent_passes(
        self, kind: str, hidden_size: int, dtype: np.dtype[Any]
    ) -> RecurrentPasses | None:
        """See :meth:`Backend.recurrent_passes`: the tuned loop, of any type."""
        return _tuned_passes(kind, hidden_size) if kind in CELLS else None

    def dropout(self, x: Array, random: Random, p: float) -> tuple[Array, Array]:
        """See :meth:`Backend.dropout`."""
        scale = self.keep_mask(random, x.shape, p).astype(x.dtype)
        scale *= x.dtype.type(1.0 / (1.0 - p))
        return x * scale, scale

    def classifier_head(self, dtype: np.dtype[Any]) -> ClassifierHead | None:
        """See :meth:`Backend.classifier_head`: of real numbers."""
        return TunedHead(self) if dtype.kind == "f" else None

    def adam_step(self, dtype: np.dtype[Any]) -> AdamStep | None:
        """See :meth:`Backend.adam_step`."""
        return adam_step

    def row_adam(self, dtype: np.dtype[Any]) -> RowAdam | None:
        """See :meth:`Backend.row_adam`."""
        return TunedRows()

    def synchronize(self) -> None:
        """Nothing to wait for: NumPy returns when it is done."""

    def keep_memory(self) -> None:
        """See :meth:`Backend.keep_memory`. It changes the process, and does nothing without glibc.

        glibc returns arrays above some 100 KB to the system at once, which then has to clear and
        map each page again for the next one: half of the time of a step of LSTM. From here on,
        arrays of any size come from the heap, and the process returns no memory.
        """
        with contextlib.suppress(OSError, AttributeError, TypeError):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(M_MMAP_MAX, 0)  # all arrays come from the heap
            mallopt(M_TRIM_THRESHOLD, NEVER)

    def memory(self) -> tuple[int, int] | None:
        """See :meth:`Backend.memory`: that of the system."""
        try:
            page = os.sysconf("SC_PAGE_SIZE")
            return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page
        except (AttributeError, ValueError, OSError):  # Windows and macOS
            return None

    def describe(self) -> dict[str, str]:
        """See :meth:`Backend.describe`."""
        return {
            "backend": self.name,
            "numpy": np.__version__,
            "blas": blas_in_use(),
            "device": platform.machine(),
        }


class ReferenceBackend(NumpyBackend):
    """NumPy without fast code for operations: only the reference runs."""

    name = "reference"

    def recurrent_passes(
        self, kind: str, hidden_size: int, dtype: np.dtype[Any]
    ) -> RecurrentPasses | None:
        """None: :mod:`npnlp.layers.recurrent.through_time` runs."""
        return None

    def classifier_head(self, dtype: np.dtype[Any]) -> ClassifierHead | None:
        """None: the layers run."""
        return None

    def adam_step(self, dtype: np.dtype[Any]) -> AdamStep | None:
        """None: :class:`npnlp.training.optimizers.Adam` computes its formula."""
        return None


@lru_cache(maxsize=64)
def _tuned_passes(kind: str, hidden_size: int) -> TunedPasses:
    """Cached: making them takes nearly as long as a step of a small layer."""
    maps = AffineMaps(np, NumpyBackend.small_product)
    return TunedPasses(kind, hidden_size, maps, NumpyBackend().segment_sum)


def _sum_by_product(values: Array, segments: Array, size: int) -> Array:
    unit = np.eye(size, dtype=values.dtype)

    def block(start: int) -> Array:
        rows = slice(start, start + ONE_HOT_ROWS)
        some, owners = values[rows], segments[rows]
        if len(owners) >= FEW * size and values.shape[1] >= WIDE:
            some, owners = _shortened(some, owners, size)
        return _apart(unit.take(owners, axis=0).T, some, owners)

    out = block(0)
    for start in range(ONE_HOT_ROWS, len(segments), ONE_HOT_ROWS):
        out += block(start)
    return out


def _sums_in_order(values: Array, segments: Array) -> tuple[Array, Array]:
    """The segments that occur, in order, and the sums of their rows, for many segments.

    Rows in the order of their segments are summed by a product for some at a time, which have few
    segments among them.
    """
    order = np.argsort(segments, kind="stable")
    in_order, values = segments.take(order), values.take(order, axis=0)
    begins = np.append(True, in_order[1:] != in_order[:-1])
    numbers, unit = begins.cumsum() - 1, np.eye(ROWS_IN_ORDER, dtype=values.dtype)
    sums = np.zeros((numbers[-1] + 1, values.shape[1]), dtype=values.dtype)
    for start in range(0, len(numbers), ROWS_IN_ORDER):
        own = numbers[start : start + ROWS_IN_ORDER]
        first, last = own[0], own[-1] + 1
        one_hot = unit[: last - first].take(own - first, axis=1)
        sums[first:last] += _apart(one_hot, values[start : start + ROWS_IN_ORDER], own - first)
    return in_order[begins], sums


@np.errstate(over="ignore", invalid="ignore")
def _apart(one_hot: Array, values: Array, segments: Array) -> Array:
    """``one_hot values``, where a number that is not finite stays in its own segment.

    A product makes NaN of zero times infinity, in every segment. Where there is such a number,
    zero takes its place in the product, and it is added to its own sum alone: all other sums have
    the bits that any finite number in its place would leave them.
    """
    product: Array = np.dot(one_hot, values)
    if math.isfinite(abs(np.vdot(product, product))):  # squares may overflow: then it is slower
        return product
    bad = ~np.isfinite(values)
    finite = values.copy(order="K")
    finite[bad] = 0
    product = np.dot(one_hot, finite)
    add_not_finite(product, values, segments)
    return product


def add_not_finite(sums: Array, values: Array, segments: Array) -> None:
    """``sums[segments[n]] += values[n]`` for the numbers that are infinite or NaN alone."""
    rows, columns = np.nonzero(~np.isfinite(values))
    with np.errstate(invalid="ignore"):  # of infinities of both signs the sum is NaN
        np.add.at(sums, (segments[rows], columns), values[rows, columns])


def _shortened(values: Array, segments: Array, size: int) -> tuple[Array, Array]:
    """Fewer rows with the same sums: rows of a segment are added in groups of 4 or 8."""
    group = 4 if len(segments) < MANY * size else 8
    order = segments.astype(np.uint8).argsort(kind="stable")  # a radix sort: size is at most 256
    counts = np.bincount(segments, minlength=size)
    owners = np.repeat(np.arange(size), counts)
    rank = np.arange(len(order)) - (counts.cumsum() - counts).take(owners)
    whole = rank < (counts - counts % group).take(owners)
    grouped, rest = order[whole].reshape(-1, group), order[~whole]
    rows = np.empty((len(grouped) + len(rest), values.shape[1]), dtype=values.dtype)
    parts = values.take(grouped.T.ravel(), axis=0).reshape(group, -1)
    np.add.reduce(parts, axis=0, out=rows[: len(grouped)].reshape(-1))
    rows[len(grouped) :] = values.take(rest, axis=0)
    return rows, np.concatenate([owners[whole][::group], owners[~whole]])
