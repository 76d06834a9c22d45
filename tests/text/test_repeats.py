"""Names that occur several times, made one each."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import get_backend
from npnlp.classifier.batches import batches
from npnlp.text import SplitArrays, SurnameDataset, own_table_path
from npnlp.text.repeats import merged

property_test = settings(max_examples=50)
Name = tuple[int, ...]


def split_of(rows: list[tuple[Name, int]]) -> SplitArrays:
    lengths = np.array([len(name) for name, _ in rows])
    tokens = np.array([token for name, _ in rows for token in name])
    starts = np.cumsum(lengths) - lengths
    return SplitArrays(tokens, starts, lengths, np.array([label for _, label in rows]))


def rows_of(split: SplitArrays) -> list[tuple[Name, int]]:
    return [
        (tuple(split.tokens[a : a + n].tolist()), label)
        for a, n, label in zip(
            split.starts.tolist(), split.lengths.tolist(), split.targets.tolist(), strict=True
        )
    ]


def check_merged(split: SplitArrays, classes: int) -> SplitArrays:
    """Against dictionaries of counts; the merged split."""
    counts: dict[Name, Counter[int]] = {}
    for name, label in rows_of(split):
        counts.setdefault(name, Counter())[label] += 1
    found = merged(split, classes)
    assert found.shares is not None
    assert found.weights is not None
    assert found.shares.shape == (len(counts), classes)
    assert [name for name, _ in rows_of(found)] == list(counts)  # in the order of appearance
    mean = len(split) / len(counts)
    for row, labels in enumerate(counts.values()):
        total = labels.total()
        shares = [labels[c] / total for c in range(classes)]
        assert found.shares[row].tolist() == pytest.approx(shares, rel=1e-15)
        assert found.weights[row] == pytest.approx(total / mean, rel=1e-15)
        assert found.targets[row] == min(labels, key=lambda c: (-labels[c], c))
    assert found.weights.mean() == pytest.approx(1, rel=1e-12)
    return found


ROWS: list[tuple[Name, int]] = [
    ((1, 2), 0), ((3,), 2), ((1, 2), 1), ((2, 1), 1), ((1, 2), 1), ((3,), 0), ((1, 2, 2), 0),
]  # fmt: skip


def test_repeats_become_one_row_with_all_labels() -> None:
    found = check_merged(split_of(ROWS), 3)
    assert found.targets.tolist() == [1, 0, 1, 0]  # a tie goes to the first class
    assert found.shares is not None
    assert found.shares[1].tolist() == [0.5, 0, 0.5]
    assert found.weights is not None
    assert found.weights.tolist() == pytest.approx([12 / 7, 8 / 7, 4 / 7, 4 / 7])


def test_without_repeats_nothing_changes() -> None:
    split = split_of([((1, 2), 0), ((2, 1), 1), ((1,), 2)])
    found = check_merged(split, 3)
    assert rows_of(found) == rows_of(split)
    assert found.weights is not None
    assert found.weights.tolist() == [1, 1, 1]


def test_the_split_itself_stays_as_it_was() -> None:
    split = split_of(ROWS)
    merged(split, 3)
    assert rows_of(split) == ROWS
    assert split.shares is None
    assert split.weights is None


@property_test
@given(
    rows=st.lists(
        st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=3).map(tuple),
                  st.integers(0, 3)),
        min_size=1, max_size=25,
    )
)  # fmt: skip
def test_any_rows_equal_the_dictionaries(rows: list[tuple[Name, int]]) -> None:
    check_merged(split_of(rows), 4)


def test_real_rows_with_several_labels() -> None:
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(own_table_path())
    split = dataset.arrays("train")
    doubled = SplitArrays(
        tokens=split.tokens,
        starts=np.concatenate([split.starts, split.starts[::3]]),
        lengths=np.concatenate([split.lengths, split.lengths[::3]]),
        targets=np.concatenate([split.targets, (split.targets[::3] + 1) % 18]),
    )
    classes = len(dataset.get_vectorizer().nationality_vocab)
    check_merged(split, classes)
    found = check_merged(doubled, max(classes, 18))
    assert found.shares is not None
    assert (np.count_nonzero(found.shares, axis=1) > 1).any()


def test_batches_carry_the_shares_and_weights_of_their_rows() -> None:
    found = merged(split_of(ROWS), 3)
    assert found.shares is not None
    assert found.weights is not None
    seen = []
    for batch in batches(found, np.array([3, 0, 2, 1]), 3, get_backend("numpy")):
        seen += batch.rows.tolist()
        assert batch.shares is not None
        assert batch.weights is not None
        np.testing.assert_array_equal(batch.shares, found.shares[batch.rows].astype(np.float32))
        np.testing.assert_array_equal(batch.weights, found.weights[batch.rows].astype(np.float32))
        np.testing.assert_array_equal(batch.targets, found.targets[batch.rows])
    assert sorted(seen) == [0, 1, 2, 3]
    (plain,) = batches(split_of(ROWS), np.arange(7), 7, get_backend("numpy"))
    assert plain.shares is None
    assert plain.weights is None
