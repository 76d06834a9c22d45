"""NumPy on the CPU: the reference that every other backend has to equal."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.base import Array, Backend

# Up to here a segment sum is one product with a one-hot matrix, which BLAS does faster than a
# sort and a reduction; beyond, the matrix would be mostly zeros to multiply with.
ONE_HOT_LIMIT = 256
# So many rows of that matrix at once: they stay in a core's cache.
ONE_HOT_ROWS = 2048
# Of glibc's mallopt: the names of two settings, and the largest value that the first may have.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, LARGEST_KEPT = -1, -3, 2**25


class NumpyBackend(Backend):
    """Arrays are ``numpy.ndarray`` in host memory."""

    name = "numpy"
    xp = np

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def asarray(self, host: NDArray[Any], dtype: Any = None) -> Array:
        """See :meth:`Backend.asarray`."""
        return np.asarray(host, dtype=dtype)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """See :meth:`Backend.to_numpy`."""
        return array

    def segment_sum(self, values: Array, segments: Array, size: int) -> Array:
        """See :meth:`Backend.segment_sum`."""
        if size <= ONE_HOT_LIMIT:
            return _sum_by_product(values, segments, size)
        out = np.zeros((size, values.shape[1]), dtype=values.dtype)
        if len(segments):
            order = np.argsort(segments, kind="stable")
            present, starts = np.unique(segments[order], return_index=True)
            out[present] = np.add.reduceat(values[order], starts, axis=0)
        return out

    def synchronize(self) -> None:
        """Nothing to wait for: NumPy returns when it is done."""

    def keep_memory(self) -> None:
        """See :meth:`Backend.keep_memory`. It holds for the process, and does nothing but on glibc.

        glibc gives arrays above some 100 KB back to the system at once, which then has to clear and
        map each page again for the next one: half of the time of a step of LSTM.
        """
        with contextlib.suppress(OSError, AttributeError, TypeError):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
            mallopt(M_TRIM_THRESHOLD, 8 * LARGEST_KEPT)

    def memory(self) -> tuple[int, int] | None:
        """See :meth:`Backend.memory`: what the system has, where it says so."""
        try:
            page = os.sysconf("SC_PAGE_SIZE")
            return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page
        except (AttributeError, ValueError, OSError):  # Windows and macOS
            return None

    def describe(self) -> dict[str, str]:
        """See :meth:`Backend.describe`."""
        return {"backend": self.name, "numpy": np.__version__, "device": platform.machine()}


def _sum_by_product(values: Array, segments: Array, size: int) -> Array:
    unit = np.eye(size, dtype=values.dtype)

    def block(start: int) -> Array:
        rows = slice(start, start + ONE_HOT_ROWS)
        product: Array = np.dot(unit.take(segments[rows], axis=0).T, values[rows])
        return product

    out = block(0)
    for start in range(ONE_HOT_ROWS, len(segments), ONE_HOT_ROWS):
        out += block(start)
    return out
