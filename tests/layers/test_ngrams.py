"""The bag of n-grams against dictionaries of tuples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import Array, Backend, Random, get_backend
from npnlp.errors import InputError
from npnlp.gradients import check_adjoint, check_gradients
from npnlp.layers import Packing
from npnlp.layers.ngrams import NgramBag, NgramCache, known_ngrams
from tests.support.packed import batch
from tests.support.reference import BOUNDS, Floats, assert_close, draw, packed_order

NUMPY = get_backend("numpy")
V, F = 6, 3
NAMES = [[1, 5, 2], [4], [3, 3, 0, 5, 2], [1, 5, 2, 5, 1, 5], [0, 5]]
ORDERS = [(1,), (2,), (3, 1), (1, 2, 3, 4), (4, 2), (2, 2)]
Gram = tuple[int, ...]
property_test = settings(max_examples=25)
each_order = pytest.mark.parametrize("orders", ORDERS, ids=str)


def packed(names: Sequence[Sequence[int]], backend: Backend = NUMPY) -> tuple[Array, Packing]:
    rows, packing = batch([np.array(name) for name in names], backend)
    return rows.astype(np.int64), packing


def grams_of(name: Sequence[int], orders: Sequence[int]) -> list[Gram]:
    """Every run of n tokens, as often as it stands there."""
    return [tuple(name[i : i + n]) for n in sorted(set(orders)) for i in range(len(name) - n + 1)]


def key_of(gram: Gram, num_tokens: int = V) -> int:
    """The number that has the tokens, each one more, as its digits."""
    return sum((token + 1) * (num_tokens + 1) ** i for i, token in enumerate(reversed(gram)))


def bag_of(
    orders: Sequence[int],
    known: Sequence[Sequence[int]] = NAMES,
    backend: Backend = NUMPY,
    dtype: Any = np.float64,
    dropout: float = 0.0,
) -> NgramBag:
    """A bag that knows the n-grams of ``known``."""
    keys = known_ngrams(*packed(known), orders, V)
    layer = NgramBag(
        len(keys), F, orders=orders, num_tokens=V, dropout=dropout,
        backend=backend, dtype=dtype, random=Random(3),
    )  # fmt: skip
    layer.keys = backend.asarray(keys)
    return layer


def vectors_of(layer: NgramBag, known: Sequence[Sequence[int]]) -> dict[Gram, Floats]:
    """The weight by n-gram."""
    grams = {gram for name in known for gram in grams_of(name, layer.orders)}
    weight = layer.backend.to_numpy(layer.parameters["weight"]).astype(float)
    return dict(zip(sorted(grams, key=key_of), weight, strict=True))


def summed(grams: Sequence[Gram], vectors: Mapping[Gram, Floats]) -> Floats:
    found = [vectors[gram] for gram in grams if gram in vectors]
    bag: Floats = sum(found, np.zeros(F)) / max(len(found), 1) ** 0.5
    return bag


@each_order
def test_the_known_ngrams_are_those_of_the_text(orders: tuple[int, ...], backend: Backend) -> None:
    tokens, packing = packed(NAMES, backend)
    keys = known_ngrams(tokens, packing, orders, V)
    expected = {key_of(gram) for name in NAMES for gram in grams_of(name, orders)}
    assert isinstance(keys, np.ndarray)
    assert keys.dtype == np.int64
    assert keys.tolist() == sorted(expected)


@each_order
@pytest.mark.parametrize("least", [1, 2, 3, 4])
def test_an_ngram_is_counted_once_a_name(
    orders: tuple[int, ...], least: int, backend: Backend
) -> None:
    names = [*NAMES, NAMES[0], NAMES[0] * 2]
    tokens, packing = packed(names, backend)
    in_names = Counter(
        key_of(gram) for name in names for gram in {tuple(g) for g in grams_of(name, orders)}
    )
    expected = sorted(key for key, count in in_names.items() if count >= least)
    assert known_ngrams(tokens, packing, orders, V, least).tolist() == expected


def test_no_two_ngrams_have_the_same_key() -> None:
    """Not even a short one and one that begins with token 0."""
    grams = [gram for n in (1, 2, 3, 4) for gram in product(range(3), repeat=n)]
    keys = known_ngrams(*packed(grams), (1, 2, 3, 4), 3)
    assert len(keys) == len(grams) == 3 + 9 + 27 + 81
    assert keys.tolist() == sorted(key_of(gram, 3) for gram in grams)


@each_order
def test_each_key_stands_where_its_ngram_ends(orders: tuple[int, ...], backend: Backend) -> None:
    tokens, packing = packed(NAMES, backend)
    keys, rows = NgramBag.keys_of(tokens, packing, orders, V)
    places = packed_order([len(name) for name in NAMES])
    found = []
    for key, row in zip(backend.to_numpy(keys), backend.to_numpy(rows).tolist(), strict=True):
        step, b = places[row]
        ended = [
            n for n in orders if key_of(tuple(NAMES[b][: step + 1][-n:])) == key and n <= step + 1
        ]
        assert ended, "no n-gram that ends there has that key"
        found.append((b, step, ended[0]))
    wanted = [(b, i, n) for b, name in enumerate(NAMES) for n in set(orders)
              for i in range(n - 1, len(name))]  # fmt: skip
    assert sorted(found) == sorted(wanted)


@each_order
def test_the_bag_equals_a_dictionary(
    orders: tuple[int, ...], backend: Backend, dtype: np.dtype[Any]
) -> None:
    known = NAMES[:3]  # what the others hold besides is not known
    layer = bag_of(orders, known, backend, dtype)
    vectors = vectors_of(layer, known)
    tokens, packing = packed(NAMES, backend)
    y, cache = layer.forward(tokens, packing=packing)
    expected = np.array([summed(grams_of(name, orders), vectors) for name in NAMES])
    assert y.dtype == dtype
    assert_close(y, expected, BOUNDS[dtype.name], backend)

    dy = draw(1, len(NAMES), F).astype(dtype)
    layer.backward(backend.asarray(dy), cache)
    d_vectors = {gram: np.zeros(F) for gram in vectors}
    for b, name in enumerate(NAMES):
        found = [gram for gram in grams_of(name, orders) if gram in vectors]
        for gram in found:
            d_vectors[gram] += dy[b] / len(found) ** 0.5
    d_weight = np.array([d_vectors[gram] for gram in sorted(vectors, key=key_of)])
    assert layer.grads["weight"].dtype == dtype
    assert_close(layer.grads["weight"], d_weight, BOUNDS[dtype.name], backend)


def test_a_name_without_a_known_ngram_gives_zeros_and_learns_nothing(backend: Backend) -> None:
    layer = bag_of((2, 3), [[1, 2, 3]], backend)
    tokens, packing = packed([[1, 2], [5, 5, 5], [4]], backend)
    y, cache = layer.forward(tokens, packing=packing)
    assert (backend.to_numpy(y) != 0).any(axis=1).tolist() == [True, False, False]
    layer.backward(backend.asarray(np.array([[0.0] * F, [1.0] * F, [1.0] * F])), cache)
    assert not backend.to_numpy(layer.grads["weight"]).any()


def test_a_batch_of_names_too_short_for_any_ngram(backend: Backend) -> None:
    layer = bag_of((3, 2), NAMES, backend)
    tokens, packing = packed([[1], [2]], backend)
    y, cache = layer.forward(tokens, Random(0), packing=packing)
    layer.backward(backend.asarray(np.ones((2, F))), cache)
    assert backend.to_numpy(y).tolist() == [[0.0] * F] * 2
    assert not backend.to_numpy(layer.grads["weight"]).any()


@pytest.mark.parametrize("random", [None, Random(5)], ids=["evaluation", "dropout"])
@each_order
def test_the_gradient_by_complex_step(
    orders: tuple[int, ...], random: Random | None, backend: Backend
) -> None:
    layer = bag_of(orders, NAMES, backend, dropout=0.4)
    tokens, packing = packed([*NAMES[1:], [2, 2, 2]], backend)
    report = check_gradients(layer, tokens, random=random, packing=packing)
    assert report.passed, str(report)
    assert check_adjoint(layer, tokens, random=random, packing=packing).passed


class WithoutScale(NgramBag):
    def backward(self, dy: Array, cache: NgramCache) -> None:
        super().backward(dy, NgramCache(cache.rows, cache.sequences, cache.scale * 0 + 1))


class NextRow(NgramBag):
    def backward(self, dy: Array, cache: NgramCache) -> None:
        rows = (cache.rows + 1) % len(self.parameters["weight"])
        super().backward(dy, NgramCache(rows, cache.sequences, cache.scale))


class Overwriting(NgramBag):
    def backward(self, dy: Array, cache: NgramCache) -> None:
        self.grads["weight"][...] = 0
        super().backward(dy, cache)


class SlightlyOff(NgramBag):
    def backward(self, dy: Array, cache: NgramCache) -> None:
        super().backward(1.001 * dy, cache)


@pytest.mark.parametrize("wrong", [WithoutScale, NextRow, Overwriting, SlightlyOff])
def test_a_wrong_gradient_is_caught(wrong: type[NgramBag]) -> None:
    layer = bag_of((1, 2))
    layer.__class__ = wrong
    tokens, packing = packed(NAMES)
    assert not check_gradients(layer, tokens, packing=packing).passed


@pytest.mark.parametrize("p", [0.3, 0.7, 0.99])
def test_dropout_scales_by_what_is_left(p: float, backend: Backend) -> None:
    """The mean of the n-grams that are left, times the root of how many."""
    orders = (1, 2)
    layer = bag_of(orders, NAMES, backend, dropout=p)
    vectors = vectors_of(layer, NAMES)
    tokens, packing = packed(NAMES, backend)
    random = Random(8)
    y, _ = layer.forward(tokens, random, packing=packing)
    keys, rows = (backend.to_numpy(a) for a in NgramBag.keys_of(tokens, packing, orders, V))
    by_key = {key_of(gram): gram for gram in vectors}
    left: list[list[Gram]] = [[] for _ in NAMES]
    kept = random.keep((len(keys),), p)
    places = packed_order([len(name) for name in NAMES])
    for key, row, keep in zip(keys.tolist(), rows.tolist(), kept.tolist(), strict=True):
        if keep:
            left[places[row][1]].append(by_key[key])
    assert 0 < sum(map(len, left)) + (p == 0.99) <= len(keys)
    assert_close(y, [summed(grams, vectors) for grams in left], backend=backend)


@pytest.mark.parametrize("p", [0.0, 0.25, 0.7])
def test_a_share_of_the_ngrams_is_dropped_and_in_evaluation_none(p: float) -> None:
    names = np.random.default_rng(0).integers(0, V, size=(300, 9)).tolist()
    layer = bag_of((1, 2, 3), names, dropout=p)
    tokens, packing = packed(names)
    total = 300 * (9 + 8 + 7)
    dropped = len(layer.forward(tokens, Random(1), packing=packing)[1].rows)
    assert abs(dropped / total - (1 - p)) < 0.02
    assert len(layer.forward(tokens, packing=packing)[1].rows) == total


def test_dropout_is_a_function_of_the_stream_and_the_step() -> None:
    layer = bag_of((1, 2), dropout=0.5)
    tokens, packing = packed(NAMES)
    seen = [
        layer.forward(tokens, random, packing=packing)[0].tolist()
        for random in (Random(1).at(2), Random(1).at(2), Random(1).at(3), Random(2).at(2), None)
    ]
    assert seen[0] == seen[1]
    assert all(a != b for i, a in enumerate(seen[1:]) for b in seen[1:][:i])


NAME_LISTS = st.lists(
    st.lists(st.integers(0, V - 1), min_size=1, max_size=6), min_size=1, max_size=6
)


def outcome(layer: NgramBag, names: Sequence[Sequence[int]], dy: Floats) -> tuple[Floats, Floats]:
    """``y`` and the gradient of the weight."""
    tokens, packing = packed(names, layer.backend)
    layer.zero_grads()
    y, cache = layer.forward(tokens, packing=packing)
    layer.backward(layer.backend.asarray(dy), cache)
    host = layer.backend.to_numpy
    return host(y).copy(), host(layer.grads["weight"]).copy()


@property_test
@given(names=NAME_LISTS, data=st.data())
def test_order_and_split_of_a_batch_change_nothing(
    backend: Backend, names: list[list[int]], data: st.DataObject
) -> None:
    orders = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    layer, dy = bag_of(orders, NAMES, backend), draw(0, len(names), F)
    y, d_weight = outcome(layer, names, dy)
    turn = data.draw(st.permutations(range(len(names))))
    turned, d_turned = outcome(layer, [names[b] for b in turn], dy[list(turn)])
    assert_close(turned, y[list(turn)], floor=1.0)
    assert_close(d_turned, d_weight, floor=1.0)
    parts = [outcome(layer, [name], dy[b : b + 1]) for b, name in enumerate(names)]
    assert_close(np.concatenate([part for part, _ in parts]), y, floor=1.0)
    assert_close(sum(part for _, part in parts), d_weight, floor=1.0)


@property_test
@given(names=NAME_LISTS, orders=st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_any_text_equals_the_dictionary(names: list[list[int]], orders: list[int]) -> None:
    layer = bag_of(orders, NAMES)
    tokens, packing = packed(names)
    vectors = vectors_of(layer, NAMES)
    expected = np.array([summed(grams_of(name, orders), vectors) for name in names])
    assert_close(layer.forward(tokens, packing=packing)[0], expected, floor=1.0)


def test_the_order_of_the_orders_does_not_matter() -> None:
    tokens, packing = packed(NAMES)
    one, other = (bag_of(orders).forward(tokens, packing=packing)[0] for orders in ((3, 1), (1, 3)))
    assert_close(one, other, 1e-15)


def test_weights_start_small_and_the_model_may_be_cast() -> None:
    layer = NgramBag(500, 20, orders=(1,), num_tokens=9, random=Random(0))
    assert layer.parameters["weight"].dtype == np.float32
    assert abs(layer.parameters["weight"].std() - 0.1) < 0.005
    twin = layer.astype(np.float64)
    assert twin.parameters["weight"].dtype == np.float64


@pytest.mark.parametrize("orders", [(), (0,), (0, 2), (-1,), (60,)], ids=str)
def test_orders_that_cannot_be_are_refused(orders: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="orders are"):
        NgramBag(3, F, orders=orders, num_tokens=V)
    with pytest.raises(InputError, match="orders are"):
        known_ngrams(*packed(NAMES), orders, V)


@pytest.mark.parametrize(("num_tokens", "fits"), [(214, True), (215, False)])
def test_keys_are_refused_before_they_overflow(num_tokens: int, fits: bool) -> None:
    """Eight digits of base 215 are below 2**62, of base 216 above."""
    largest = [[num_tokens - 1] * 8]
    if not fits:
        with pytest.raises(InputError, match="small enough for 215 tokens"):
            known_ngrams(*packed(largest), (8,), num_tokens)
        return
    keys = known_ngrams(*packed(largest), (8,), num_tokens)
    assert keys.tolist() == [key_of(tuple(largest[0]), num_tokens)]


def test_a_bag_of_nothing_and_a_share_above_one_are_refused() -> None:
    with pytest.raises(InputError, match="num_ngrams is 0"):
        NgramBag(0, F, orders=(1,), num_tokens=V)
    with pytest.raises(InputError, match=r"dropout of NgramBag is 1\.0"):
        NgramBag(3, F, orders=(1,), num_tokens=V, dropout=1.0)
