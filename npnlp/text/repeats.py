"""Rows of the same name merged into one row with the distribution of its labels."""

from __future__ import annotations

import numpy as np

from npnlp.text.dataset import SplitArrays


def merged(split: SplitArrays, num_classes: int) -> SplitArrays:
    """``split`` with one row per name, in the order of first appearance.

    Of the rows of a name, ``targets`` is the most frequent class (the first of several), ``shares``
    the fraction of each class, and ``weights`` their number, divided by the mean number. Where the
    rows have weights, these are counted instead of the rows.
    """
    ends = split.starts + split.lengths
    keys = [split.tokens[a:b].tobytes() for a, b in zip(split.starts, ends, strict=True)]
    numbers: dict[bytes, int] = {}
    of_row = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
    _, first = np.unique(of_row, return_index=True)
    counts = np.zeros((len(numbers), num_classes))
    np.add.at(counts, (of_row, split.targets), 1.0 if split.weights is None else split.weights)
    totals = counts.sum(axis=1)
    return SplitArrays(
        tokens=split.tokens,
        starts=split.starts[first],
        lengths=split.lengths[first],
        targets=counts.argmax(axis=1),
        shares=counts / totals[:, None],
        weights=totals / totals.mean(),
    )
