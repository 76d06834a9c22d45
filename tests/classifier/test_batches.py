"""Batches of rows by length: all rows once, and no batch that one long name makes large."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from npnlp.classifier.batches import MOST_STEPS, by_length
from npnlp.text import SplitArrays
from tests.support.packed import NUMPY


def split_of(lengths: Sequence[int]) -> SplitArrays:
    sizes = np.array(lengths, dtype=np.int64)
    tokens = np.arange(sizes.sum()) % 7
    return SplitArrays(tokens, np.cumsum(sizes) - sizes, sizes, np.arange(len(sizes)) % 3)


@pytest.mark.parametrize("size", [1, 10, 512, None])
@pytest.mark.parametrize(
    "longest", [[], [300], [300] * 700, [10_000], [200_000], [400, 4_000, 9_000, 9_001, 150_000]]
)
def test_a_long_name_has_a_small_batch(longest: list[int], size: int | None) -> None:
    short = np.random.default_rng(0).integers(3, 20, 1100).tolist()
    split, rows = split_of([*longest, *short]), []
    for batch in by_length(split, NUMPY, size):
        padded = len(batch.rows) * int(split.lengths[batch.rows].max())
        assert padded <= MOST_STEPS or len(batch.rows) == 1
        names = [split.tokens[split.starts[row] :][: split.lengths[row]] for row in batch.rows]
        np.testing.assert_array_equal(batch.packing.lengths, [len(name) for name in names])
        assert batch.vocabulary[batch.tokens[: len(names)]].tolist() == [n[0] for n in names]
        rows.append(batch.rows)
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(split)))
    longest_of = [int(split.lengths[each].max()) for each in rows]
    assert longest_of == sorted(longest_of)
    assert len(rows) <= -(-len(split) // (size or 512)) + 2 * 10 + 700 * 300 // MOST_STEPS


def test_short_names_have_the_batches_of_their_order() -> None:
    split = split_of(np.random.default_rng(1).integers(3, 256, 1200).tolist())
    order = np.argsort(split.lengths, kind="stable")
    for number, batch in enumerate(by_length(split, NUMPY)):
        own = order[512 * number : 512 * (number + 1)]
        assert sorted(batch.rows.tolist()) == sorted(own.tolist())


def test_no_rows_have_no_batches() -> None:
    assert list(by_length(split_of([]), NUMPY)) == []
