"""Rows of a split become packed batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend
from npnlp.layers import Packing
from npnlp.text import SplitArrays


@dataclass(frozen=True)
class Batch:
    """``tokens (N,)`` packed by ``packing``, ``targets (B,)``; ``rows (B,)`` of the split."""

    tokens: Array
    packing: Packing
    targets: Array
    rows: NDArray[np.int64]


def make_batch(split: SplitArrays, rows: NDArray[np.int64], backend: Backend) -> Batch:
    """The given rows of a split as one batch."""
    packing = Packing(split.lengths[rows], backend)
    return Batch(
        tokens=packing.pack_ragged(split.tokens, split.starts[rows]),
        packing=packing,
        targets=backend.asarray(split.targets[rows]),
        rows=rows,
    )


def batches(
    split: SplitArrays,
    order: NDArray[np.int64],
    batch_size: int,
    backend: Backend,
    start: int = 0,
) -> Iterator[Batch]:
    """The rows in ``order``, ``batch_size`` at a time, from batch ``start`` on; the last may be
    smaller.
    """
    for first in range(start * batch_size, len(order), batch_size):
        yield make_batch(split, order[first : first + batch_size], backend)
