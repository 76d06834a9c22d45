"""The kernels of a bag of n-grams: run on the CPU through the shim, against the layer on NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random, get_backend
from npnlp.backend.cuda.ngrams import ResidentNgrams
from npnlp.backend.cuda.resident import Resident
from npnlp.classifier.batches import Batch, batches, ngrams_of
from npnlp.layers.ngrams import FoundNgrams, NgramBag
from npnlp.text import SplitArrays
from tests.support.cupy_on_shim import CupyOnShim, declared
from tests.support.reference import draw
from tests.support.shim import compiled

NUMPY = get_backend("numpy")
TOKENS, FEATURES, DROPOUT = 7, 37, 0.4
LENGTHS = [3, 1, 7, 2, 2, 5, 9, 1, 4, 4, 6]
equal = np.testing.assert_array_equal


@pytest.fixture
def shim() -> CupyOnShim:
    return CupyOnShim()


def names(lengths: list[int] | None = None) -> SplitArrays:
    """Of few letters, so that n-grams come again; between the names are tokens of no name."""
    sizes = np.array(lengths or LENGTHS)
    starts = np.cumsum(sizes + 2) - sizes
    tokens = np.random.default_rng(3).integers(0, TOKENS, int(starts[-1] + sizes[-1]))
    return SplitArrays(tokens, starts, sizes, np.arange(len(sizes)) % 3)


def bag_of(split: SplitArrays, orders: tuple[int, ...], backend: Any, dtype: Any) -> NgramBag:
    """It knows every other n-gram."""
    keys = ngrams_of(split, orders, TOKENS)[::2]
    bag = NgramBag(
        len(keys), FEATURES, orders=orders, num_tokens=TOKENS, dropout=DROPOUT, backend=backend,
        dtype=dtype, random=Random(1, "bag"),
    )  # fmt: skip
    bag.keys = backend.asarray(keys)
    return bag


def placed(
    shim: CupyOnShim, split: SplitArrays, orders: tuple[int, ...], size: int, number: int
) -> tuple[FoundNgrams, Batch]:
    """What the kernel finds in a batch, with room for more, and that batch packed on the host."""
    order = np.random.default_rng(1).permutation(len(split))
    within = order[np.lexsort((-split.lengths[order], np.arange(len(order)) // size))]
    resident = Resident(shim, split.tokens, split.starts, split.lengths, split.targets, size)
    resident.order[...], resident.counters[0] = within, number
    (batch,) = list(batches(split, order[: (number + 1) * size], size, NUMPY, number))
    capacity = batch.packing.rows + 9
    buffers = resident.buffers(len(batch.rows), capacity)
    resident.load(buffers)
    ngrams = ResidentNgrams(resident, sorted(set(orders)))
    bag = bag_of(split, orders, NUMPY, np.float64)
    ngrams.fill(bag.rows_at(split.tokens, bag.keys))
    to = ngrams.buffers(capacity)
    to.rows[...], to.sequences[...], to.known[...] = 1, 1, True  # what is not written shows
    ngrams.load(buffers, to)
    return FoundNgrams(to.rows, to.known, to.sequences), batch


@pytest.mark.parametrize("orders", [(1,), (2, 1), (1, 2, 3, 4), (3, 3), (2, 8)])
@pytest.mark.parametrize("size", [4, 11])
def test_the_ngrams_of_a_batch_are_the_layers_in_its_order(
    shim: CupyOnShim, orders: tuple[int, ...], size: int
) -> None:
    split = names()
    bag = bag_of(split, orders, NUMPY, np.float64)
    for number in {0, (len(split) - 1) // size}:
        found, batch = placed(shim, split, orders, size, number)
        tokens = batch.vocabulary.take(batch.tokens)
        expected = bag.find(tokens, batch.packing)
        count = len(expected.rows)
        assert count < len(found.rows)
        equal(found.known[:count], expected.known)
        equal(found.rows[:count][expected.known], expected.rows[expected.known])
        equal(found.sequences[:count], expected.sequences)
        for beyond in found:
            assert not beyond[count:].any()
        if batch.packing.rows > 10 and orders != (2, 8):
            assert expected.known.sum() > 0


def test_an_order_longer_than_any_name_has_no_ngrams(shim: CupyOnShim) -> None:
    split = names([2, 2, 1, 2, 2])
    found, _ = placed(shim, split, (2, 4), 5, 0)
    assert found.known.sum() <= 4
    assert not found.known[4:].any()


def both_passes(
    bag: NgramBag, found: FoundNgrams | None, batch: Batch, random: Random | None
) -> list[Any]:
    """``y``, and the gradient of the weight after two backward passes: it is added to."""
    tokens = batch.vocabulary.take(batch.tokens)
    y, cache = bag.run(tokens, random, packing=batch.packing, found=found)
    wide = draw(5, len(y), FEATURES + 3).astype(y.dtype)
    for _ in range(2):
        bag.undo(wide[:, 3:], cache)  # a part of wider rows, as in the model
    return [y, bag.grads["weight"]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("random", [None, Random(2, "ngrams", 7)])
def test_a_bag_and_its_gradient_are_numpys(
    shim: CupyOnShim, dtype: str, padded: bool, random: Random | None
) -> None:
    """Also with places that are not used: the mask of dropout is the same."""
    split, orders = names(), (1, 2, 3)
    found, batch = placed(shim, split, orders, 11, 0)
    of_numpy = bag_of(split, orders, NUMPY, np.dtype(dtype))
    expected = both_passes(of_numpy, None, batch, random)
    own = bag_of(split, orders, shim, np.dtype(dtype))
    got = both_passes(own, found if padded else None, batch, random)
    assert set(shim.kernels.launched) >= {"bag_sums", "bag_backward"}
    bound = 1e-6 if dtype == "float32" else 1e-14
    for ours, theirs in zip(got, expected, strict=True):
        assert np.abs(theirs).max() > 0.1
        np.testing.assert_allclose(ours, theirs, rtol=bound, atol=bound * np.abs(theirs).max())


def test_names_without_a_known_ngram_have_an_empty_bag(shim: CupyOnShim) -> None:
    bag = bag_of(names(), (2,), shim, np.float32)
    nothing, none = np.zeros(5, dtype=np.int64), np.zeros(5, dtype=bool)
    passes = shim.bag_passes(np.dtype("float32"))
    assert passes is not None
    y, scales = passes.forward(bag.parameters["weight"], nothing, none, nothing, 3)
    passes.backward(y + 1, scales, nothing, none, nothing, bag.grads["weight"])
    equal(y, np.zeros((3, FEATURES)))
    equal(scales, np.ones((3, 1)))
    assert not bag.grads["weight"].any()


def test_no_order_of_the_threads_changes_a_bit() -> None:
    results = []
    for seed in range(3):
        shim = CupyOnShim()
        shim.kernels.seed = seed
        found, batch = placed(shim, names(), (1, 2), 11, 0)
        bag = bag_of(names(), (1, 2), shim, np.float32)
        results.append([*found, *both_passes(bag, found, batch, Random(2, "ngrams", 7))])
    for other in results[1:]:
        for one, another in zip(results[0], other, strict=True):
            equal(one, another)


@pytest.mark.parametrize(
    ("function", "right", "wrong"),
    [
        ("ngram_rows", "offsets[orders[j] - 1]", "offsets[orders[j] - 2 < 0 ? 0 : orders[j] - 2]"),
        ("ngram_rows", "first + row - skipped", "first + row"),
        ("ngram_rows", "if (item >= total)", "if (item > total)"),
        ("ngram_rows", "start + steps_of[row]", "start + steps_of[row] / 2"),
        ("bag_sums", "met > 1 ? met : 1", "met + 1"),
        ("bag_sums", "met += counted[other]", "met = counted[other]"),
        ("bag_sums", "ballot_sync(ALL, own)", "ballot_sync(ALL, own) & 0xffff"),
        ("bag_backward", "if (__syncthreads_or(earlier)) return;", ""),
        ("bag_backward", "int from = mine + 32", "int from = mine + 1 + 32"),
        ("bag_backward", "scales[sequence]", "scales[0]"),
        ("bag_backward", "sequence * stride", "sequence * (stride - 1)"),
    ],
)
def test_a_planted_mistake_is_caught(
    function: str, right: str, wrong: str, shim: CupyOnShim, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = shim.kernels.get

    def broken(name: str, chosen: str, *options: str) -> Any:
        if chosen != function:
            return get(name, chosen, *options)
        made = compiled(name, tuple(declared(name, options)), options, ((right, wrong),))
        return lambda grid, block, arguments: made.launch(
            function, grid, block, arguments, strided=True
        )

    def all_of_it() -> list[Any]:
        found, batch = placed(shim, names(), (1, 2, 3), 11, 0)
        bag = bag_of(names(), (1, 2, 3), shim, np.float32)
        return [*found, *both_passes(bag, found, batch, None)]

    expected = all_of_it()
    monkeypatch.setattr(shim.kernels, "get", broken)
    same = [np.array_equal(a, b) for a, b in zip(all_of_it(), expected, strict=True)]
    assert not all(same)
