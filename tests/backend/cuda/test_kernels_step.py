"""The kernels that a captured step begins and ends with: run on the CPU through the shim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import get_backend
from npnlp.backend.cuda.resident import Resident
from npnlp.backend.cuda.update import CHUNK, DeviceUpdate, Rule
from npnlp.backend.operations import AdamNumbers
from npnlp.classifier.batches import batches
from npnlp.layers import FlatParameters, Linear
from npnlp.text import SplitArrays
from npnlp.training.clipping import clip_grad_norm
from npnlp.training.optimizers import SGD
from tests.support.cupy_on_shim import CupyOnShim, declared
from tests.support.door import adam_step
from tests.support.reference import draw
from tests.support.shim import compiled

NUMPY = get_backend("numpy")


@pytest.fixture
def shim() -> CupyOnShim:
    return CupyOnShim()


def split_of(lengths: list[int]) -> SplitArrays:
    sizes = np.array(lengths)
    tokens = np.random.default_rng(len(lengths)).integers(2, 20, sizes.sum())
    return SplitArrays(tokens, np.cumsum(sizes) - sizes, sizes, np.arange(len(sizes)) % 5)


def sorted_within(split: SplitArrays, order: Any, size: int) -> Any:
    return order[np.lexsort((-split.lengths[order], np.arange(len(order)) // size))]


def loaded(
    shim: CupyOnShim, split: SplitArrays, order: Any, size: int, number: int, spare: int
) -> Any:
    """What the kernels make of batch ``number``, and what the host makes of it."""
    arrays = split.tokens, split.starts, split.lengths, split.targets
    resident = Resident(shim, *arrays, size)
    resident.order[...] = sorted_within(split, order, size)
    resident.counters[0] = number
    (expected,) = list(batches(split, order[: (number + 1) * size], size, NUMPY, number))
    rows = expected.packing.rows
    buffers = resident.buffers(len(expected.rows), rows + spare)
    for array in vars(buffers).values():
        array[...] = -9  # what is not written shows
    resident.load(buffers)
    return buffers, expected


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=30), size=st.integers(1, 9),
    seed=st.integers(0, 99), spare=st.integers(0, 80),
)  # fmt: skip
def test_a_batch_is_packed_as_on_the_host(
    lengths: list[int], size: int, seed: int, spare: int
) -> None:
    split, shim = split_of(lengths), CupyOnShim()
    shim.kernels.seed = seed
    order = np.random.default_rng(seed).permutation(len(lengths))
    for number in {0, (len(lengths) - 1) // size}:
        found, expected = loaded(shim, split, order, size, number, spare)
        packing, rows, batch = expected.packing, expected.packing.rows, len(expected.rows)
        steps = len(packing.offsets)
        equal = np.testing.assert_array_equal
        equal(found.tokens[:rows], expected.vocabulary[expected.tokens])
        equal(found.targets, expected.targets)
        equal(found.rows, expected.rows)
        equal(found.lengths, packing.lengths)
        equal(found.last_rows, packing.last_rows)
        equal(found.offsets, [*packing.offsets, *[rows] * (max(lengths) - steps)])
        equal(found.sizes, [*packing.batch_sizes, *[0] * (max(lengths) - steps)])
        equal(found.steps[:rows], packing.steps)
        equal(found.places[:rows], packing.places)
        equal(found.previous_rows[: rows - batch], packing.previous_rows)
        equal(found.reversed_rows[:rows], packing.reversed_rows)
        for rest in (found.tokens, found.steps, found.places):
            equal(rest[rows:], np.zeros(spare))
        equal(found.previous_rows[rows - batch :], np.zeros(spare))
        equal(found.reversed_rows[rows:], np.arange(rows, rows + spare))


def test_a_batch_of_more_sequences_than_threads(shim: CupyOnShim) -> None:
    lengths = np.random.default_rng(1).integers(1, 4, 300).tolist()
    split = split_of(lengths)
    found, expected = loaded(shim, split, np.arange(300), 300, 0, 5)
    np.testing.assert_array_equal(found.last_rows, expected.packing.last_rows)
    np.testing.assert_array_equal(found.offsets[:3], expected.packing.offsets)


#: Two parameters, the first of more than one chunk and with weights that decay.
SHAPES = {"weight": (3, CHUNK // 2 + 7), "bias": (9,)}


class Step:
    """Weights, gradients and moments drawn anew, and a step on them."""

    def __init__(self, shim: CupyOnShim, dtype: Any, clip: float | None) -> None:
        size = sum(int(np.prod(shape)) for shape in SHAPES.values())
        self.buffers = [draw(k, size).astype(dtype) for k in range(4)]
        self.buffers[3] **= 2
        values = self.buffers[0]
        first = int(np.prod(SHAPES["weight"]))
        parameters = {"weight": values[:first], "bias": values[first:]}
        self.first, self.clip = first, clip
        self.log, self.counters = np.zeros((4, 6)), np.array([2, 7, 0], dtype=np.uint64)
        self.update = DeviceUpdate(
            shim, (values, self.buffers[1]), parameters, self.rule(), {"weight"}, self.log,
            self.counters, clip,
        )  # fmt: skip
        self.update.rates[2] = 1e-2, 1e-8, 0.75
        self.weight_sum: Any = 16

    def rule(self) -> Rule:
        return Rule("adam", tuple(self.buffers[2:]), (0.9, 0.99))

    def run(self, loss: float = 3.5) -> list[Any]:
        dtype = self.buffers[0].dtype
        self.update.launch(np.array(loss, dtype), self.weight_sum, np.array(11))
        return self.buffers

    def expected(self) -> list[Any]:
        values, grads, *moments = (array.copy() for array in self.buffers)
        norm = np.sqrt(np.dot(grads.astype(np.float64), grads))
        if self.clip:
            grads *= min(1.0, self.clip / (norm + 1e-6))
        values[: self.first] *= 0.75
        numbers = AdamNumbers(0.9, 0.99, 1e-2, 1e-8)
        adam_step(NUMPY, values, grads, (moments[0], moments[1]), numbers)
        return [values, self.buffers[1], *moments]


class Descent(Step):
    """The same without Adam; momentum 0 has no buffer."""

    momentum = 0.75

    def rule(self) -> Rule:
        return Rule("sgd", (self.buffers[2] if self.momentum else None,), (self.momentum,))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("momentum", [0.0, 0.75])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_gradient_descent_is_numpys(
    shim: CupyOnShim, dtype: str, momentum: float, clip: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Two steps of the optimizer itself, of which the second has a velocity."""
    monkeypatch.setattr(Descent, "momentum", momentum)
    step = Descent(shim, np.dtype(dtype), clip)
    step.update.rates[2:] = 0.5, 0, 1
    flat = FlatParameters({"fc": Linear(len(step.buffers[0]) - 1, 1, dtype=dtype)}, NUMPY)
    sgd = SGD(flat, NUMPY, 0.5, momentum)
    flat.values[...] = step.buffers[0]
    if momentum:
        sgd.moments["momentum"][...] = step.buffers[2]
    for _ in range(2):
        flat.grads[...] = step.buffers[1]
        clip_grad_norm(flat.grads, clip, NUMPY)
        sgd.step()
        step.run()
    bound = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(step.buffers[0], flat.values, rtol=bound, atol=bound)
    if momentum:
        velocity = sgd.moments["momentum"]
        np.testing.assert_allclose(step.buffers[2], velocity, rtol=bound, atol=bound)
    assert np.abs(flat.values - draw(0, len(flat.values))).max() > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clip", [None, 0.5, 1e9])
def test_an_update_is_numpys(shim: CupyOnShim, dtype: str, clip: float | None) -> None:
    step = Step(shim, np.dtype(dtype), clip)
    expected, grads = step.expected(), step.buffers[1].astype(np.float64)
    bound = 1e-6 if dtype == "float32" else 1e-14
    for found, right in zip(step.run(), expected, strict=True):
        np.testing.assert_allclose(found, right, rtol=bound, atol=bound)
    parts = [np.dot(part, part) for part in (grads[: step.first], grads[step.first :])]
    np.testing.assert_allclose(step.log[2], [3.5, 16, 11, np.sqrt(sum(parts)), *parts], rtol=bound)
    assert not step.log[[0, 1, 3]].any()
    assert step.counters.tolist() == [3, 8, 0]


def test_without_decay_and_clipping_it_is_adams_kernel_to_the_bit(shim: CupyOnShim) -> None:
    step = Step(shim, np.float32, None)
    step.update.rates[2, 2] = 1
    values, grads, *moments = (array.copy() for array in step.buffers)
    numbers = AdamNumbers(0.9, 0.99, 1e-2, 1e-8)
    adam_step(shim, values, grads, (moments[0], moments[1]), numbers)
    for found, right in zip(step.run(), (values, grads, *moments), strict=True):
        np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize("place", ["loss", "gradient", "weight", "overflow"])
def test_a_number_that_is_not_finite_stops_all_later_updates(shim: CupyOnShim, place: str) -> None:
    step = Step(shim, np.float32, 1.0)
    values, grads, *_ = step.buffers
    if place in ("gradient", "weight"):
        {"gradient": grads, "weight": values}[place][-3] = np.inf
    if place == "overflow":
        grads[5] = 1e30
    before = [array.copy() for array in step.buffers]
    step.run(loss=np.nan if place == "loss" else 3.5)
    assert step.counters.tolist() == [3, 8, 3]
    grads[...], values[np.isinf(values)] = 0, 0
    before[0][np.isinf(before[0])] = 0
    step.run()  # finite, but after one that was not
    for number in (0, 2, 3):
        np.testing.assert_array_equal(step.buffers[number], before[number])
    assert step.counters.tolist() == [4, 9, 3]
    assert not step.log.any()


def test_the_weights_of_rows_are_read_on_the_device(shim: CupyOnShim) -> None:
    step = Step(shim, np.float32, None)
    step.weight_sum = np.array(2.5, np.float32)
    step.run()
    assert step.log[2, 1] == 2.5


def test_no_order_of_the_threads_changes_a_bit(shim: CupyOnShim) -> None:
    found = []
    for seed in range(4):
        shim.kernels.seed = seed
        step = Step(shim, np.float32, 0.5)
        found.append([*step.run(), step.log])
    for other in found[1:]:
        for one, another in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, another)


@pytest.mark.parametrize(
    ("file", "function", "right", "wrong"),
    [
        ("update.cu", "square_sums", "half > 0", "half > 1"),
        ("update.cu", "judge", "p <= parameters; p += WARPS", "p < parameters; p += WARPS"),
        ("update.cu", "judge", "if (!good) return;", ""),
        ("update.cu", "adam_chunks", "if (decided[GOOD] == 0) return;", ""),
        ("update.cu", "sgd_chunks", "if (!decided[GOOD]) return;", ""),
        ("update.cu", "sgd_chunks", "momentum * velocity[i] + u", "momentum * (velocity[i] + u)"),
        ("update.cu", "judge", "scale < 1 ? scale", "scale > 1 ? scale"),
        ("batch.cu", "batch_steps", "length < t ? length : t", "length <= t ? length : t + 1"),
        ("batch.cu", "batch_rows", "lengths[place] - 1 - t", "lengths[place] - 1"),
        ("batch.cu", "batch_rows", "item >= rows && item", "item > rows && item"),
    ],
)
def test_a_planted_mistake_is_caught(
    file: str, function: str, right: str, wrong: str, shim: CupyOnShim,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    get = shim.kernels.get

    def broken(name: str, chosen: str, *options: str) -> Any:
        if chosen != function:
            return get(name, chosen, *options)
        made = compiled(file, tuple(declared(file, options)), options, ((right, wrong),))
        return lambda grid, block, arguments: made.launch(function, grid, block, arguments)

    def all_of_it() -> list[Any]:
        packed, _ = loaded(shim, split_of([3, 1, 7, 2, 2]), np.arange(5), 3, 0, 6)
        good, bad = Step(shim, np.float32, 0.5), Step(shim, np.float32, 0.5)
        falls, stays = Descent(shim, np.float32, 0.5), Descent(shim, np.float32, 0.5)
        bad.buffers[0][4] = stays.buffers[0][4] = np.nan
        steps = [good, bad, falls, stays]
        for step in steps:
            step.run()
        kept = [array for step in steps for array in (*step.run(), step.log, step.counters)]
        return [*vars(packed).values(), *kept]

    expected = all_of_it()
    monkeypatch.setattr(shim.kernels, "get", broken)
    found = all_of_it()
    same = [np.array_equal(a, b, equal_nan=True) for a, b in zip(found, expected, strict=True)]
    assert not all(same)
