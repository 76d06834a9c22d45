"""The layout of many packed batches, and the tokens of their rows.

All arrays are in host memory. An epoch has hundreds of batches: to lay out many in one call takes a
tenth of the time. Packing is explained in :mod:`npnlp.layers.packing`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
AnyIntegers = NDArray[np.integer]


class Layout(NamedTuple):
    """K batches of B sequences, packed one batch after another.

    ``runs (K, 2, T)`` int32: each step's first row, undefined after the batch's last step, and its
    number of rows. ``last_rows (K, B)``: the row of each sequence's last step. ``previous_rows
    (N,)``: the row of the step before, undefined for a first step. ``ends (K,)``: where the rows of
    each batch end. Rows are counted within a batch, except ``ends``.
    """

    runs: NDArray[np.int32]
    last_rows: Integers
    previous_rows: Integers
    ends: Integers


class Numbered(NamedTuple):
    """The tokens of a :class:`Layout`, numbered within each batch.

    ``vocabulary``: the sorted tokens of each batch, one batch after another; ``ends (K,)``: where
    those of each batch end; ``numbers (N,)``: each packed row's index in them.
    """

    numbers: Integers
    vocabulary: Integers
    ends: Integers


def lay_out(lengths: Integers) -> Layout:
    """The layout of sequences of ``lengths (K, B)``, longest first in each batch."""
    (batches, batch), longest = lengths.shape, int(lengths.max())
    places = np.arange(batch)
    cells = lengths + np.arange(batches)[:, None] * (longest + 1)
    ended = np.bincount(cells.ravel(), minlength=batches * (longest + 1)).reshape(batches, -1)
    sizes = batch - ended.cumsum(axis=1)[:, :longest]  # (K, T): sequences still running
    offsets = np.cumsum(sizes, axis=1) - sizes
    last = np.take_along_axis(offsets, lengths - 1, axis=1) + places
    ends = np.cumsum(sizes.sum(axis=1))
    starts = ends - sizes.sum(axis=1)
    # The row before (t, b) is (t - 1, b); step t - 1 has sizes[k, t - 1] rows.
    before = starts[:, None] + np.roll(sizes, 1, axis=1)
    previous = np.arange(ends[-1]) - np.repeat(before.ravel(), sizes.ravel())
    runs = np.stack([offsets, sizes], axis=1).astype(np.int32)
    return Layout(runs, last, previous, ends)


def number(tokens: AnyIntegers, starts: Integers, layout: Layout) -> Numbered:
    """The tokens of packed sequences: sequence (k, b) is ``tokens[starts[k, b]:]``."""
    (batches, batch), (offsets, sizes) = starts.shape, layout.runs.swapaxes(0, 1)
    counts = np.diff(layout.ends, prepend=0)
    # Each (k, t) is a run of rows, for the sequences 0 to sizes[k, t] - 1.
    runs, (k, steps) = sizes.ravel(), np.indices(sizes.shape)
    first = offsets + (layout.ends - counts)[:, None] - k * batch
    sequences = np.arange(layout.ends[-1]) - np.repeat(first.ravel(), runs)
    found = tokens.take(starts.ravel().take(sequences) + np.repeat(steps.ravel(), runs))
    size = int(found.max()) + 1
    cells = found + np.repeat(np.arange(batches) * size, counts)
    occurs = np.zeros((batches, size), dtype=bool)
    occurs.reshape(-1)[cells] = True
    numbers = np.cumsum(occurs, axis=1) - 1
    return Numbered(numbers.ravel().take(cells), occurs.nonzero()[1], occurs.sum(axis=1).cumsum())
