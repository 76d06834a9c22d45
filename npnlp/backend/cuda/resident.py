"""A split of the data in device memory, and its batches packed there (``kernels/batch.cu``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.base import Array, Backend

#: Threads of a block, as in the source.
THREADS = 256


@dataclass(frozen=True)
class BatchBuffers:
    """Buffers for a packed batch of B sequences and up to ``capacity`` rows.

    ``rows``, of the split, ``lengths``, ``targets`` and ``last_rows (B,)``; ``offsets`` and
    ``sizes (T,)`` int32; ``tokens``, ``steps``, ``places`` and ``reversed_rows (capacity,)``;
    ``previous_rows (capacity - B,)``. See :class:`npnlp.layers.Packing`.
    """

    rows: Array
    lengths: Array
    targets: Array
    last_rows: Array
    offsets: Array
    sizes: Array
    tokens: Array
    steps: Array
    places: Array
    reversed_rows: Array
    previous_rows: Array

    @classmethod
    def of(cls, batch: int, steps: int, capacity: int, backend: Backend) -> BatchBuffers:
        """Buffers for ``batch`` sequences, ``steps`` steps and ``capacity`` rows."""

        def room(size: int, dtype: Any = np.int64) -> Array:
            return backend.zeros((size,), dtype)

        of_steps = {name: room(steps, np.int32) for name in ("offsets", "sizes")}
        names = ("tokens", "steps", "places", "reversed_rows")
        of_rows = {name: room(capacity) for name in names}
        return cls(
            rows=room(batch), lengths=room(batch), targets=room(batch), last_rows=room(batch),
            previous_rows=room(capacity - batch), **of_steps, **of_rows,
        )  # fmt: skip


class Resident:
    """The arrays of a split on the device: ``tokens``, ``starts``, ``lengths`` and ``targets``.

    ``order`` are its rows in the order of an epoch, longest first in each batch of ``batch_size``;
    ``counters`` (uint64) are the next batch, the step and the first bad batch. With ``spare`` there
    is room for names that are by so many tokens longer, which :meth:`rename` may bring.
    """

    def __init__(
        self,
        backend: Any,
        tokens: NDArray[np.integer],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        targets: NDArray[np.int64],
        batch_size: int,
        spare: int = 0,
    ) -> None:
        self.backend, self.batch_size = backend, batch_size
        rows = len(lengths)
        longer = int(lengths.sum()) + rows * spare if spare else 0
        self.tokens = backend.zeros((max(len(tokens), longer),), np.int64)
        self.starts, self.lengths = (backend.zeros((rows,), np.int64) for _ in range(2))
        self.targets = self._on_device(targets)
        self.order = backend.zeros((rows,), np.int64)
        self.counters = backend.zeros((3,), np.uint64)
        self.steps = int(lengths.max()) + spare
        self.rename(tokens, starts, lengths)

    def _on_device(self, array: NDArray[np.integer]) -> Array:
        found: Array = self.backend.asarray(np.ascontiguousarray(array, dtype=np.int64))
        return found

    def rename(
        self, tokens: NDArray[np.integer], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> None:
        """Copy the names of the rows to the device, in the place of those before."""
        self.tokens[: len(tokens)] = self._on_device(tokens)
        self.starts[...] = self._on_device(starts)
        self.lengths[...] = self._on_device(lengths)

    def buffers(self, batch: int, capacity: int) -> BatchBuffers:
        """Buffers for ``batch`` sequences and ``capacity`` packed rows."""
        return BatchBuffers.of(batch, self.steps, capacity, self.backend)

    def load(self, to: BatchBuffers) -> None:
        """Pack batch ``counters[0]``, which has to fit; two launches."""
        get, batch, capacity = self.backend.kernels.get, len(to.lengths), len(to.tokens)
        sizes = (np.int32(self.batch_size), np.int32(batch), np.int32(self.steps))
        get("batch.cu", "batch_steps")(
            (-(-(self.steps + batch) // THREADS),), (THREADS,),
            (self.counters, self.order, self.lengths, self.targets, *sizes,
             to.rows, to.lengths, to.targets, to.offsets, to.sizes, to.last_rows),
        )  # fmt: skip
        get("batch.cu", "batch_rows")(
            (-(-max(self.steps * batch, capacity) // THREADS),), (THREADS,),
            (self.counters, self.order, self.tokens, self.starts, to.lengths, to.offsets, to.sizes,
             *sizes, np.int32(capacity),
             to.tokens, to.steps, to.places, to.previous_rows, to.reversed_rows),
        )  # fmt: skip
