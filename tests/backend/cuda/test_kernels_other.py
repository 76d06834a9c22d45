"""The kernels beside the recurrence: run on the CPU through the shim, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random, get_backend
from npnlp.backend.cuda import backend as module
from npnlp.backend.cuda.kernel_source import kernel_source, real_option
from npnlp.backend.operations import AdamNumbers
from npnlp.layers import Dropout, FlatParameters, Linear, SoftmaxCrossEntropy
from npnlp.training.optimizers import Adam
from tests.support.cupy_on_shim import CupyOnShim, declared
from tests.support.door import adam_step, cross_entropy
from tests.support.reference import draw
from tests.support.shim import compiled

NUMPY = get_backend("numpy")
BOUND = {"float32": 1e-6, "float64": 1e-14}
SEEDS = range(5)


@pytest.fixture
def shim() -> CupyOnShim:
    return CupyOnShim()


def close(found: Any, expected: Any, bound: float) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    scale = np.abs(expected).max(initial=1e-30)
    assert np.abs(found - expected).max(initial=0.0) <= bound * scale


def test_a_source_has_its_includes_in_place_and_each_once() -> None:
    assert "#include" not in kernel_source("segment_sum.cu")
    assert declared("adam.cu", ("-DREAL=double",))["adam_step"][5] == (np.float64, False)
    assert real_option(np.float32) == "-DREAL=float"
    with pytest.raises(KeyError):
        real_option(np.complex128)


@pytest.mark.parametrize("shape", [(1,), (16,), (17,), (64, 100), (3, 5, 7), (0, 4), (4097,)])
@pytest.mark.parametrize("p", [0.1, 0.5, 1e-6, 0.999999])
def test_philox_draws_the_bits_of_numpy(shim: CupyOnShim, shape: Any, p: float) -> None:
    for random in (
        Random(0, "dropout1"),
        Random(-1, "x", 2**64 - 1),
        Random(2**63 + 5, "a.b.c", 10**12),
        Random(20, "training.dropout2", 7),
    ):
        mask = shim.keep_mask(random, shape, p)
        np.testing.assert_array_equal(mask, random.keep(shape, p))
        assert mask.dtype == bool


def test_philox_reads_the_step_on_the_device(shim: CupyOnShim) -> None:
    clock = np.array([2**40 + 3], dtype=np.uint64)
    mask = shim.keep_mask(Random(7, "dropout1").at(clock).child("x"), (5, 9), 0.3)
    expected = Random(7, "dropout1").at(2**40 + 3).child("x").keep((5, 9), 0.3)
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("0xD2E7470EE14C6C93ULL", "0xD2E7470EE14C6C91ULL"),
        ("round < 10", "round < 9"),
        ("(u64)block + 1, 0, step", "(u64)block, 0, step"),
        ("(u64)block + 1, 0, step", "(u64)block + 1, step, 0"),
        ("bits >= threshold", "bits > threshold"),
    ],
)
def test_a_mistake_in_philox_is_caught(right: str, wrong: str) -> None:
    broken = compiled("philox.cu", ("keep_mask",), edits=((right, wrong),))
    random, p, count = Random(3, "dropout1", 5), 0.5, 2**19
    keep, (seed, stream) = np.empty(count, dtype=bool), random.key
    numbers = (
        np.int64(count),
        seed,
        stream,
        np.uint64(random.step),
        np.uint64(0),
        np.uint32(2**15),
    )
    broken.launch("keep_mask", (count // 16 // 256,), (256,), (keep, *numbers))
    assert (keep != random.keep((count,), p)).any()


@pytest.mark.parametrize("size", [1, 255, 256, 1000])
def test_adam_equals_numpy_over_many_steps(
    shim: CupyOnShim, size: int, dtype: np.dtype[Any]
) -> None:
    scale = 10.0 ** draw(9, size)
    states: dict[str, list[Any]] = {}
    for backend in (NUMPY, shim):
        values, first, second = (draw(k, size).astype(dtype) for k in range(3))
        first[:], second[:] = 0, 0
        for step in range(1, 9):
            grads = (scale * draw(10 + step, size)).astype(dtype)
            a, b = 0.1 / (1 - 0.9**step), (1e-3 / (1 - 0.999**step)) ** 0.5
            numbers = AdamNumbers(0.9, 0.999, rate=1e-2 * a / b, eps=1e-8 / b)
            adam_step(backend, values, grads, (first, second), numbers)
        states[backend.name] = [values, first, second]
    for found, expected in zip(states["cupy"], states["numpy"], strict=True):
        np.testing.assert_allclose(found, expected, rtol=BOUND[dtype.name], atol=0)


def test_adam_is_one_launch_a_step(shim: CupyOnShim) -> None:
    flat = FlatParameters({"fc": Linear(3, 4, backend=shim)}, shim)
    optimizer = Adam(flat, shim, weight_decay=0.1)
    flat.grads[...] = 1
    optimizer.step()
    assert shim.kernels.launched == ["adam_step"]


@pytest.mark.parametrize("classes", [1, 2, 18, 127, 128, 129, 300])
@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_equals_numpy(
    shim: CupyOnShim, classes: int, weighted: bool, dtype: np.dtype[Any]
) -> None:
    logits = 20 * draw(classes, 7, classes).astype(dtype)
    targets = np.random.default_rng(classes).integers(0, classes, 7)
    weights = np.abs(draw(1, classes)).astype(dtype) if weighted else None
    results = []
    for backend in (shim, NUMPY):
        criterion = SoftmaxCrossEntropy(weights, backend=backend, dtype=dtype)
        loss, cache = criterion.forward(logits, targets)
        again = criterion.backward(1.0, cache)
        d_logits = criterion.backward(np.asarray(0.7, dtype=dtype), cache)
        results.append((np.asarray(loss), cache.probabilities, again, d_logits))
    for found, expected in zip(*results, strict=True):
        close(found, expected, BOUND[dtype.name])
    assert set(shim.kernels.launched) == {"softmax_losses", "softmax_losses_backward"}


def test_softmax_of_no_rows_launches_nothing(shim: CupyOnShim) -> None:
    logits, targets = np.zeros((0, 18), dtype=np.float32), np.zeros(0, dtype=np.int64)
    passes = cross_entropy(shim, logits)
    probabilities, losses = passes.forward(logits, targets)
    assert passes.backward(1.0, probabilities, targets).shape == (0, 18)
    assert losses.shape == (0,)
    assert shim.kernels.launched == []


def test_softmax_of_logits_that_are_not_finite_is_not_finite(shim: CupyOnShim) -> None:
    logits = np.zeros((3, 18), dtype=np.float32)
    logits[0, 3], logits[1, 3], logits[2, 0] = np.nan, np.inf, 1e30
    losses = cross_entropy(shim, logits).forward(logits, np.zeros(3, dtype=np.int64))[1]
    assert np.isnan(losses[:2]).all()
    assert losses[2] == 0


@pytest.mark.parametrize("size", [1, 3, 80, 300])
@pytest.mark.parametrize(
    ("rows", "columns"), [(0, 31), (1, 1), (1, 70), (40, 31), (256, 70), (1000, 1), (1000, 31)]
)
@pytest.mark.parametrize("limit", [2**26, -1], ids=["looked up", "sorted"])
def test_segment_sum_equals_numpy_and_repeats_in_any_order_of_threads(
    shim: CupyOnShim, size: int, rows: int, columns: int, limit: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "LOOK_UP_TO", limit)
    values = draw(rows + size, rows, columns).astype(np.float32)
    segments = np.random.default_rng(rows).integers(0, size, rows) // 2 * 2 % size
    found = shim.segment_sum(values, segments, size)
    close(found, NUMPY.segment_sum(values, segments, size), 1e-6)
    shim.kernels.seed = 1
    np.testing.assert_array_equal(shim.segment_sum(values, segments, size), found)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_kernel_gives_the_same_bits_in_any_order_of_threads(
    shim: CupyOnShim, seed: int
) -> None:
    values, logits = draw(0, 500, 33).astype(np.float32), draw(1, 9, 140).astype(np.float32)
    segments = np.random.default_rng(1).integers(0, 20, 500)

    def all_of_it() -> list[Any]:
        order = shim._segment_order(segments, 500, 20)
        passes = cross_entropy(shim, logits)
        probabilities, losses = passes.forward(logits, segments[:9])
        backward = passes.backward(0.5, probabilities, segments[:9])
        return [*order, shim.segment_sum(values, segments, 20), probabilities, losses, backward]

    first = all_of_it()
    shim.kernels.seed = 100 + seed
    for found, expected in zip(all_of_it(), first, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(first[0], np.argsort(segments, kind="stable"))
    np.testing.assert_array_equal(first[1], np.searchsorted(np.sort(segments), np.arange(21)))


@pytest.mark.parametrize(
    ("file", "function", "right", "wrong"),
    [
        ("softmax.cu", "softmax_losses", "half > 0", "half > 1"),
        ("segment_sum.cu", "segment_sum", "other < LANES", "other < LANES - 1"),
        ("segment_sum.cu", "segment_sum", "k += LANES", "k += LANES + 1"),
        ("segment_sum.cu", "segment_sum", "= sum;\n  __syncthreads();", "= sum;"),
        ("segment_sum.cu", "segment_order", "= n;  // (2)", "= n ? n - 1 : 0;"),
        (
            "softmax.cu",
            "softmax_losses",
            "[thread] = mine;\n  __syncthreads();",
            "[thread] = mine;",
        ),
    ],
)
def test_a_mistake_in_a_reduction_is_caught(
    file: str, function: str, right: str, wrong: str, shim: CupyOnShim,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    values = np.abs(draw(0, 300, 40)).astype(np.float32)
    segments = np.random.default_rng(1).integers(0, 4, 300)

    def found() -> Any:
        if file == "softmax.cu":
            return cross_entropy(shim, values).forward(values, segments)[1]
        return shim.segment_sum(values, segments, 4)

    expected, get = found(), shim.kernels.get

    def broken(name: str, chosen: str, *options: str) -> Any:
        if chosen != function:
            return get(name, chosen, *options)
        made = compiled(file, tuple(declared(file, options)), options, ((right, wrong),))
        return lambda grid, block, arguments: made.launch(function, grid, block, arguments)

    monkeypatch.setattr(shim.kernels, "get", broken)
    assert not np.allclose(found(), expected, rtol=1e-5)


def test_a_captured_step_sorts_nothing_however_many_rows_it_has(
    shim: CupyOnShim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sort waits for the device. Outside of a capture it is faster for many."""
    monkeypatch.setattr(module, "LOOK_UP_TO", -1)
    values, segments = draw(1, 40, 6).astype(np.float32), np.arange(40) % 7
    expected = NUMPY.segment_sum(values, segments, 7)
    close(shim.segment_sum(values, segments, 7), expected, 1e-6)
    assert shim.kernels.launched == ["segment_sum"]
    with shim.xp.own_products():
        close(shim.segment_sum(values, segments, 7), expected, 1e-6)
    assert shim.kernels.launched[1:] == ["segment_order", "segment_sum"]


def test_dtypes_without_a_kernel_are_computed_plainly(shim: CupyOnShim) -> None:
    values, segments = draw(0, 30, 4).astype(np.complex128), np.arange(30) % 7
    close(
        shim.segment_sum(values, segments, 7),
        NUMPY.segment_sum(values, segments, 7),
        BOUND["float64"],
    )
    results = (cross_entropy(b, values).forward(values, segments % 4) for b in (shim, NUMPY))
    for found, expected in zip(*results, strict=True):
        close(found, expected, 0.0)
    assert shim.kernels.launched == []


def test_dropout_is_the_same_on_both(shim: CupyOnShim) -> None:
    x, random = draw(0, 64, 100).astype(np.float32), Random(5, "dropout").at(9)
    found, expected = (Dropout(0.5, backend=b).forward(x, random)[0] for b in (shim, NUMPY))
    np.testing.assert_array_equal(found, expected)
