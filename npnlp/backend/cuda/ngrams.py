"""A bag of n-grams on a device (``kernels/ngrams.cu``): those of a batch, and both passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.base import Array
from npnlp.backend.cuda.kernel_source import real_option
from npnlp.backend.cuda.resident import BatchBuffers, Resident

#: Threads of a block, and columns that it sums, as in the source.
THREADS, COLUMNS = 128, 32


class KernelBag:
    """See :class:`BagPasses`. Two launches, whatever is known of the n-grams on the host."""

    def __init__(self, backend: Any) -> None:
        self.xp, self.kernels = backend.xp, backend.kernels

    def forward(
        self, weight: Array, rows: Array, known: Array, sequences: Array, batch: int
    ) -> tuple[Array, Array]:
        """See :meth:`BagPasses.forward`."""
        columns = weight.shape[1]
        out = self.xp.empty((batch, columns), dtype=weight.dtype)
        scales = self.xp.empty((batch, 1), dtype=weight.dtype)
        self.kernels.get("ngrams.cu", "bag_sums", real_option(weight.dtype))(
            (batch, -(-columns // COLUMNS)), (THREADS,),
            (weight, rows, known, sequences, np.int32(len(rows)), np.int32(columns), out, scales),
        )  # fmt: skip
        return out, scales

    def backward(
        self, dy: Array, scales: Array, rows: Array, known: Array, sequences: Array,
        d_weight: Array,
    ) -> None:  # fmt: skip
        """See :meth:`BagPasses.backward`."""
        count, columns = len(rows), d_weight.shape[1]
        if columns > 1 and dy.strides[1] != dy.itemsize:
            dy = self.xp.ascontiguousarray(dy)
        stride = np.int64(dy.strides[0] // dy.itemsize)
        if count:
            self.kernels.get("ngrams.cu", "bag_backward", real_option(dy.dtype))(
                (count, -(-columns // COLUMNS)), (THREADS,),
                (dy, stride, scales, rows, known, sequences, np.int32(count), np.int32(columns),
                 d_weight),
            )  # fmt: skip


@dataclass(frozen=True)
class NgramBuffers:
    """Room for the n-grams of a batch: ``rows``, ``known`` and ``sequences (M,)``."""

    rows: Array
    known: Array
    sequences: Array


class ResidentNgrams:
    """The n-grams of a split that lies on the device, found once.

    ``orders (J,)`` rise; ``table (J, n)`` has for each the row of the n-gram that ends at each of
    the split's tokens, or -1.
    """

    def __init__(self, resident: Resident, orders: list[int]) -> None:
        self.resident, backend = resident, resident.backend
        self.orders = backend.asarray(np.array(orders, dtype=np.int32))
        self.table = backend.zeros((len(orders), len(resident.tokens)), np.int32)

    def fill(self, table: NDArray[np.int32]) -> None:
        """Copy what was found to the device, in the place of what was there."""
        self.table[:, : table.shape[1]] = self.resident.backend.asarray(table)

    def buffers(self, capacity: int) -> NgramBuffers:
        """Room for the n-grams of ``capacity`` packed rows."""
        size, zeros = (len(self.orders) * capacity,), self.resident.backend.zeros
        return NgramBuffers(zeros(size, np.int64), zeros(size, bool), zeros(size, np.int64))

    def load(self, batch: BatchBuffers, to: NgramBuffers) -> None:
        """The n-grams of a batch that has been loaded; one launch."""
        of, (count, tokens) = self.resident, self.table.shape
        sizes = (of.batch_size, of.steps, len(batch.tokens), count, tokens)
        of.backend.kernels.get("ngrams.cu", "ngram_rows")(
            (-(-len(to.rows) // THREADS),), (THREADS,),
            (of.counters, of.order, of.starts, self.table, self.orders, batch.offsets, batch.sizes,
             batch.steps, batch.places, *map(np.int32, sizes), to.rows, to.known, to.sequences),
        )  # fmt: skip
