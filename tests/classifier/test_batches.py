"""Batches of rows by length: all rows once, and no batch that one long name makes large."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest

from npnlp.classifier import batches as module
from npnlp.classifier.batches import MOST_STEPS, batches, by_length
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


def test_batches_are_the_same_however_many_are_packed_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    split = split_of([*np.random.default_rng(2).integers(3, 20, 500).tolist(), 4_000])
    order = np.random.default_rng(3).permutation(len(split))
    for start in (0, 7, 15, 16, 17):
        expected = list(batches(split, order, 32, NUMPY, start))
        assert len(expected) == max(0, 16 - start)
        for most in (1, 700, 9_000):
            monkeypatch.setattr(module, "TOGETHER", most)
            found = list(batches(split, order, 32, NUMPY, start))
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one.rows, other.rows)
                np.testing.assert_array_equal(one.tokens, other.tokens)
                np.testing.assert_array_equal(one.vocabulary, other.vocabulary)
                np.testing.assert_array_equal(one.packing.runs, other.packing.runs)
                np.testing.assert_array_equal(one.packing.last_rows, other.packing.last_rows)
        monkeypatch.undo()


def test_a_layout_takes_no_square_of_rows_and_steps() -> None:
    lengths = np.array([[9_000, *[8] * 3_000]])
    tracemalloc.start()
    try:
        layout = NUMPY.lay_out(lengths)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000
    assert layout.runs[0, 1].tolist() == [3_001] * 8 + [1] * 8_992
