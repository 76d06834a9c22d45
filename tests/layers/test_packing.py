"""Packed sequences: their layout, the way there and back, and what may not change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import Backend, get_backend
from npnlp.errors import InputError
from npnlp.layers import Packing, pack_padded_sequence, pad_packed_sequence
from npnlp.layers.packing import pack_many
from tests.support import reference
from tests.support.reference import draw, packed_order

NUMPY = get_backend("numpy")
LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=6)
property_test = settings(max_examples=25)


def padded(lengths: Sequence[int], extra: int = 0, features: int = 2) -> Any:
    """Every element another number, also those in the padding."""
    shape = (max(lengths) + extra, len(lengths), features)
    return 1.0 + np.arange(float(np.prod(shape))).reshape(shape)


def test_the_layout_of_the_docstring(backend: Backend) -> None:
    letters = np.array([["a1", "b1", "c1"], ["a2", "b2", "--"], ["a3", "--", "--"]])
    numbers = np.arange(9).reshape(3, 3)
    data, packing = pack_padded_sequence(backend.asarray(numbers), np.array([3, 2, 1]), backend)
    found = letters.reshape(-1)[backend.to_numpy(data)]
    assert found.tolist() == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert packing.batch_sizes == [3, 2, 1]
    assert packing.offsets == [0, 3, 5]


@property_test
@given(lengths=LENGTHS)
def test_rows_lie_longest_first_and_step_after_step(backend: Backend, lengths: list[int]) -> None:
    x = padded(lengths)
    data, packing = pack_padded_sequence(backend.asarray(x), np.array(lengths), backend)
    np.testing.assert_array_equal(backend.to_numpy(data), reference.pack(x, lengths))
    sizes = [sum(length > t for length in lengths) for t in range(max(lengths))]
    assert packing.batch_sizes == sizes
    assert packing.offsets == [sum(sizes[:t]) for t in range(len(sizes))]
    assert packing.rows == sum(lengths)
    np.testing.assert_array_equal(packing.lengths, lengths)


@property_test
@given(lengths=LENGTHS)
def test_last_and_previous_rows(backend: Backend, lengths: list[int]) -> None:
    packing = Packing.of(np.array(lengths), backend)
    order = packed_order(lengths)
    last = [order.index((lengths[b] - 1, b)) for b in range(len(lengths))]
    previous = [order.index((t - 1, b)) for t, b in order if t > 0]
    assert backend.to_numpy(packing.last_rows).tolist() == last
    assert backend.to_numpy(packing.previous_rows).tolist() == previous


@property_test
@given(lengths=LENGTHS, batch_first=st.booleans())
def test_packing_and_padding_give_the_batch_back(
    backend: Backend, lengths: list[int], batch_first: bool
) -> None:
    x = padded(lengths)
    running = np.arange(max(lengths))[:, None] < np.array(lengths)
    given = x.swapaxes(0, 1).copy() if batch_first else x
    data, packing = pack_padded_sequence(
        backend.asarray(given), np.array(lengths), backend, batch_first=batch_first
    )
    back = backend.to_numpy(pad_packed_sequence(data, packing, batch_first=batch_first))
    expected = np.where(running[:, :, None], x, 0.0)
    np.testing.assert_array_equal(back.swapaxes(0, 1) if batch_first else back, expected)


@property_test
@given(lengths=LENGTHS, extra=st.integers(1, 5))
def test_more_padding_changes_nothing(backend: Backend, lengths: list[int], extra: int) -> None:
    more = padded(lengths, extra)
    less = more[: max(lengths)].copy()
    (a, _), (b, _) = (
        pack_padded_sequence(backend.asarray(x), np.array(lengths), backend) for x in (more, less)
    )
    np.testing.assert_array_equal(backend.to_numpy(a), backend.to_numpy(b))


@property_test
@given(lengths=LENGTHS)
def test_sorting_is_undone(backend: Backend, lengths: list[int]) -> None:
    packing = Packing.of(np.array(lengths), backend)
    rows = draw(1, len(lengths), 3)
    given = backend.asarray(rows)
    by_length = [b for t, b in packed_order(lengths) if t == 0]
    ordered = packing.sort(given)
    np.testing.assert_array_equal(backend.to_numpy(ordered), rows[by_length])
    np.testing.assert_array_equal(backend.to_numpy(packing.unsort(ordered)), rows)
    ordered += 1  # a copy: the caller's array stays
    np.testing.assert_array_equal(backend.to_numpy(given), rows)


@property_test
@given(lengths=LENGTHS)
def test_each_sequence_turns_around_within_its_own_length(
    backend: Backend, lengths: list[int]
) -> None:
    x = padded(lengths)
    data, packing = pack_padded_sequence(backend.asarray(x), np.array(lengths), backend)
    turned = backend.to_numpy(packing.reverse(data)).copy()
    expected = x.copy()
    for b, length in enumerate(lengths):
        expected[:length, b] = x[:length, b][::-1]
    np.testing.assert_array_equal(turned, reference.pack(expected, lengths))
    # Twice is nothing, and as a matrix it is its own transpose: <P x, y> = <x, P y>.
    twice = backend.to_numpy(packing.reverse(packing.reverse(data)))
    np.testing.assert_array_equal(twice, backend.to_numpy(data))
    unit = backend.to_numpy(packing.reverse(backend.asarray(np.eye(packing.rows))))
    np.testing.assert_array_equal(unit, unit.T)
    # Tokens turn as rows do, and what was given stays as it was.
    tokens = backend.asarray(np.arange(packing.rows))
    rows = backend.to_numpy(packing.reverse(tokens)).tolist()
    np.testing.assert_array_equal(turned, backend.to_numpy(data)[rows])
    np.testing.assert_array_equal(backend.to_numpy(data), reference.pack(x, lengths))


@property_test
@given(batch=st.lists(st.tuples(*[st.integers(1, 7)] * 2), min_size=1, max_size=3))
def test_batches_packed_together_turn_as_those_packed_alone(
    backend: Backend, batch: list[tuple[int, ...]]
) -> None:
    lengths = np.array([sorted(row, reverse=True) for row in batch])
    for one, row in zip(pack_many(lengths, backend)[0], lengths, strict=True):
        x = backend.asarray(draw(0, one.rows, 2))
        alone = Packing.of(row, backend).reverse(x)
        np.testing.assert_array_equal(backend.to_numpy(one.reverse(x)), backend.to_numpy(alone))


@property_test
@given(batch=st.lists(st.tuples(*[st.integers(1, 7)] * 3), min_size=1, max_size=4))
def test_batches_packed_together_are_those_packed_alone(
    backend: Backend, batch: list[tuple[int, ...]]
) -> None:
    lengths = np.array([sorted(row, reverse=True) for row in batch])
    together, layout = pack_many(lengths, backend)
    assert layout.ends.tolist() == np.cumsum([sum(row) for row in batch]).tolist()
    for one, row in zip(together, lengths, strict=True):
        alone = Packing.of(row, backend)
        assert one.batch_sizes == alone.batch_sizes
        assert one.offsets == alone.offsets
        np.testing.assert_array_equal(one.steps, alone.steps)
        np.testing.assert_array_equal(one.places, alone.places)
        for name in ("last_rows", "previous_rows"):
            found, expected = (backend.to_numpy(getattr(p, name)) for p in (one, alone))
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", [np.int8, np.int32, np.uint8, np.uint64])
def test_any_whole_number_is_a_length(kind: type[np.integer[Any]]) -> None:
    lengths = [2, 5, 1, 5]
    small = Packing.of(np.array(lengths, kind), NUMPY)
    usual = Packing.of(np.array(lengths), NUMPY)
    np.testing.assert_array_equal(small.last_rows, usual.last_rows)
    np.testing.assert_array_equal(small.padded_rows(), usual.padded_rows())
    assert small.batch_sizes == usual.batch_sizes


@pytest.mark.parametrize(
    ("lengths", "says"),
    [
        ([2, 0, 1], r"lengths\[1\] is 0"),
        ([2, 1, -3], r"lengths\[2\] is -3"),
        ([2, 4, 1], r"lengths\[1\] is 4, but x has 3 steps"),
        ([2, 1], r"2 lengths for 3 sequences"),
        ([], r"shape \(0,\)"),
        ([[2, 1, 1]], r"shape \(1, 3\)"),
        ([2.0, 1.0, 1.0], r"float64"),
    ],
)
def test_lengths_that_cannot_be_are_refused(lengths: list[Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        pack_padded_sequence(np.zeros((3, 3, 2)), np.array(lengths), NUMPY)
