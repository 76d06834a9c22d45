"""Rows of a split become packed batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend
from npnlp.layers import Packing
from npnlp.layers.packing import pack_many
from npnlp.text import SplitArrays

#: Batches are packed together up to this many padded steps in all: enough to share the overhead,
#: few enough to stay in the cache.
TOGETHER = 2**15


@dataclass(frozen=True)
class Batch:
    """Rows of a split: ``tokens (N,)`` packed by ``packing``, ``targets (B,)``, ``rows (B,)``.

    ``vocabulary (R,)`` are the tokens that occur, in order, and ``tokens`` number those. The rows
    are sorted, the longest name first, so that packing does not have to move them.
    """

    tokens: Array
    vocabulary: Array
    packing: Packing
    targets: Array
    rows: NDArray[np.int64]

    @property
    def inputs(self) -> dict[str, Any]:
        """What the model's forward pass takes."""
        return {"tokens": self.tokens, "vocabulary": self.vocabulary, "packing": self.packing}


def batches(
    split: SplitArrays,
    order: NDArray[np.int64],
    batch_size: int,
    backend: Backend,
    start: int = 0,
) -> Iterator[Batch]:
    """The rows in ``order``, ``batch_size`` at a time, from batch ``start`` on.

    The last batch may be smaller. Many are packed at once, fewer where names are long.
    """
    whole = len(order) - len(order) % batch_size
    longest = int(split.lengths.max()) if len(split) else 0
    together = max(1, TOGETHER // (batch_size * longest + 1)) * batch_size
    for first in range(start * batch_size, whole, together):
        chunk = order[first : min(first + together, whole)]
        yield from _pack(split, chunk.reshape(-1, batch_size), backend)
    if start * batch_size < len(order) and whole < len(order):
        yield from _pack(split, order[whole:][None], backend)


def _pack(split: SplitArrays, rows: NDArray[np.int64], backend: Backend) -> Iterator[Batch]:
    """A batch for each line of ``rows (K, B)``."""
    longest_first = np.argsort(-split.lengths[rows], axis=1, kind="stable")
    rows = np.take_along_axis(rows, longest_first, axis=1)
    packings, (k, steps, places) = pack_many(split.lengths[rows], backend)
    starts = split.starts[rows].ravel()
    tokens = split.tokens.take(starts.take(k * rows.shape[1] + places) + steps)
    size = int(tokens.max()) + 1
    cells = k * size + tokens
    occurs = np.zeros(len(rows) * size, dtype=bool)
    occurs[cells] = True
    numbers = np.cumsum(occurs.reshape(-1, size), axis=1) - 1
    local = numbers.ravel().take(cells)
    end = 0
    for packing, of_batch, present in zip(packings, rows, occurs.reshape(-1, size), strict=True):
        start, end = end, end + packing.rows
        yield Batch(
            tokens=backend.asarray(local[start:end]),
            vocabulary=backend.asarray(np.flatnonzero(present)),
            packing=packing,
            targets=backend.asarray(split.targets[of_batch]),
            rows=of_batch,
        )
