"""The batches of an epoch, packed on a device from a split that lies there.

Everything that the host would know of a batch by looking at it has a fixed shape here: there is
room for more rows and n-grams than it has, and those that are not there change nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array
from npnlp.backend.cuda.ngrams import NgramBuffers, ResidentNgrams
from npnlp.backend.cuda.resident import BatchBuffers, Resident
from npnlp.classifier.batches import Batch
from npnlp.layers import Packing
from npnlp.layers.ngrams import FoundNgrams
from npnlp.models import SurnameClassifier
from npnlp.text import SplitArrays

#: Room for rows comes in steps of an eighth of the power of two below, and no finer than this:
#: at most an eighth more than a batch has, and few graphs.
FINEST, PARTS = 64, 8


def capacity_for(rows: int) -> int:
    """Room for a batch of ``rows`` packed rows."""
    step = max(FINEST, (1 << rows.bit_length() - 1) // PARTS)
    return -(-rows // step) * step


def longest_first(
    order: NDArray[np.int64], lengths: NDArray[np.int64], batch_size: int
) -> NDArray[np.int64]:
    """The ``order`` of an epoch with the longest rows first in each batch."""
    number = np.arange(len(order)) // batch_size
    return order[np.lexsort((-lengths[order], number))]


class Shape(NamedTuple):
    """The buffers of one number of sequences and one capacity, and the batch that they are."""

    buffers: BatchBuffers
    ngrams: NgramBuffers | None
    batch: Batch


class DeviceBatches:
    """The rows of ``split`` on the device of ``model``, and batches of them.

    With ``misspelled`` an epoch may have other names, with one more token each at most.
    """

    def __init__(
        self, model: SurnameClassifier, split: SplitArrays, batch_size: int, misspelled: bool
    ) -> None:
        self.backend: Any = model.backend
        self.split, self.bag = split, model.ngrams
        arrays = (split.tokens, split.starts, split.lengths, split.targets)
        self.resident = Resident(self.backend, *arrays, batch_size, spare=int(misspelled))
        both = {"shares": split.shares, "weights": split.weights}
        self.of_rows = {
            name: self.backend.asarray(given.astype(np.float32))
            for name, given in both.items() if given is not None
        }  # fmt: skip
        self.ngrams: ResidentNgrams | None = None
        #: The keys of the n-grams that were found, and the same on the host.
        self.keys: Array | None = None
        self.on_host: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        if self.bag is not None:
            self.ngrams = ResidentNgrams(self.resident, sorted(set(self.bag.orders)))
        self.shapes: dict[tuple[int, int], Shape] = {}

    def begin(self, split: SplitArrays, order: NDArray[np.int64]) -> None:
        """Copy an epoch's order to the device, and its names where they are others."""
        self.resident.order[...] = self.backend.asarray(order)
        others = split is not self.split
        if others:
            self.split = split
            self.resident.rename(split.tokens, split.starts, split.lengths)
        if self.bag is None or self.ngrams is None:
            return
        if self.keys is not self.bag.keys:
            self.keys, self.on_host = self.bag.keys, self.backend.to_numpy(self.bag.keys)
            others = True
        if others:
            self.ngrams.fill(self.bag.rows_at(split.tokens, self.on_host))

    def shape(self, batch: int, capacity: int) -> Shape:
        """The one for ``batch`` sequences and ``capacity`` packed rows, made once."""
        key = batch, capacity
        if key not in self.shapes:
            self.shapes[key] = self._made(batch, capacity)
        return self.shapes[key]

    def load(self, shape: Shape) -> Batch:
        """The next batch, which has to fit."""
        self.resident.load(shape.buffers)
        if self.ngrams is not None and shape.ngrams is not None:
            self.ngrams.load(shape.buffers, shape.ngrams)
        of_rows: dict[str, Any] = {
            name: of.take(shape.buffers.rows, axis=0) for name, of in self.of_rows.items()
        }
        return shape.batch._replace(**of_rows)

    def _made(self, batch: int, capacity: int) -> Shape:
        buffers = self.resident.buffers(batch, capacity)
        steps = self.resident.steps
        nobody = np.empty(0, dtype=np.int64)
        packing = Packing(
            backend=self.backend, lengths=buffers.lengths, order=None,
            runs=np.tile(np.array([[0], [batch]], dtype=np.int32), steps),
            last_rows=buffers.last_rows, previous_rows=buffers.previous_rows,
        )  # fmt: skip
        # What a packing would make on the host, or copy from there, is on the device already.
        vars(packing).update(
            on_device=(buffers.offsets, buffers.sizes, batch, steps), steps=buffers.steps,
            places=buffers.places, reversed_rows=buffers.reversed_rows, spare=True,
        )  # fmt: skip
        # No vocabulary of the batch's own: its size would be another for each batch.
        vocabulary: Any = None
        found = Batch(buffers.tokens, vocabulary, packing, buffers.targets, nobody)
        if self.ngrams is None:
            return Shape(buffers, None, found)
        ngrams = self.ngrams.buffers(capacity)
        known = FoundNgrams(ngrams.rows, ngrams.known, ngrams.sequences)
        return Shape(buffers, ngrams, found._replace(ngrams=known))
