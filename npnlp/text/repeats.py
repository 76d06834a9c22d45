"""Names that occur several times, made one each, with all the labels they carry."""

from __future__ import annotations

import numpy as np

from npnlp.text.dataset import SplitArrays


def merged(split: SplitArrays, num_classes: int) -> SplitArrays:
    """``split`` with each name once, in the order of first appearance.

    ``targets`` become the class it carries most often (the first of several), ``shares`` the share
    of each class, and ``weights`` how often it occurs, over the mean of that.
    """
    ends = split.starts + split.lengths
    keys = [split.tokens[a:b].tobytes() for a, b in zip(split.starts, ends, strict=True)]
    numbers: dict[bytes, int] = {}
    of_row = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
    _, first = np.unique(of_row, return_index=True)
    counts = np.zeros((len(numbers), num_classes))
    np.add.at(counts, (of_row, split.targets), 1)
    totals = counts.sum(axis=1)
    return SplitArrays(
        tokens=split.tokens,
        starts=split.starts[first],
        lengths=split.lengths[first],
        targets=counts.argmax(axis=1),
        shares=counts / totals[:, None],
        weights=totals / totals.mean(),
    )
