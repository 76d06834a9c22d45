"""The kernels of several operations in one launch: on the CPU through the shim, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import Random, get_backend
from npnlp.backend.cuda import affine as module
from npnlp.backend.cuda.affine import Affine
from npnlp.backend.cuda.products import Cut
from npnlp.backend.cuda.recurrent_passes import KernelPasses
from npnlp.backend.operations import LookedUp, Weights
from npnlp.backend.tuned.head import TunedHead
from npnlp.backend.tuned.loop import TunedPasses
from npnlp.layers import Packing
from tests.support.cupy_on_shim import CupyOnShim, declared
from tests.support.reference import draw
from tests.support.shim import compiled

NUMPY = get_backend("numpy")
BOUND = {"float32": 1e-6, "float64": 1e-14}
SIZES = st.integers(1, 70)


@pytest.fixture
def shim() -> CupyOnShim:
    return CupyOnShim()


def close(found: Any, expected: Any, scale: Any = 1.0) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert (np.abs(found - expected) <= BOUND[found.dtype.name] * (scale + 1e-30)).all()


def affine_of(shim: CupyOnShim) -> Affine:
    return Affine(np, shim.kernels)


@pytest.mark.parametrize("name", ["float32", "float64"])
@settings(max_examples=10)
@given(
    sizes=st.tuples(SIZES, SIZES, st.integers(1, 600)), relu=st.booleans(), biased=st.booleans(),
    turned=st.booleans(),
)  # fmt: skip
def test_an_affine_map_with_what_is_behind_it(
    sizes: tuple[int, int, int], relu: bool, biased: bool, turned: bool, name: str
) -> None:
    dtype = np.dtype(name)
    (rows, columns, depth), shim = sizes, CupyOnShim()
    x, w = draw(1, rows, depth).astype(dtype), draw(2, columns, depth).astype(dtype)
    bias, factor = draw(3, columns).astype(dtype), draw(4, rows, columns).astype(dtype)
    b = w.T if turned else np.ascontiguousarray(w.T)
    a = x @ w.T + (bias if biased else 0)
    expected, behind = (np.maximum(a, 0) if relu else a) * factor, factor * (a > 0)
    scale = (np.abs(x) @ np.abs(w.T) + np.abs(bias)) * np.abs(factor)
    found = affine_of(shim).product(x, b, bias if biased else None, factor, relu=relu)
    close(found, expected, scale)
    if relu:
        far = np.abs(a) > 1e-4  # where rounding does not decide
        np.testing.assert_array_equal(factor[far], behind[far])


@pytest.mark.parametrize("name", ["float32", "float64"])
@settings(max_examples=10)
@given(
    sizes=st.tuples(SIZES, SIZES, st.integers(1, 600)), skip=st.integers(-1, 20),
    initial=st.booleans(),
)  # fmt: skip
def test_the_gradient_of_weights_and_bias_of_chosen_rows(
    sizes: tuple[int, int, int], skip: int, initial: bool, name: str
) -> None:
    """``skip`` -1: all rows in their order. ``dy`` is a part of the columns of an array."""
    (rows, columns, depth), shim, dtype = sizes, CupyOnShim(), np.dtype(name)
    depth, skip = max(depth, skip), min(skip, depth)
    dy, x = draw(1, depth, rows + 9).astype(dtype)[:, 3 : 3 + rows], draw(2, depth, columns)
    x = given_x = x.astype(dtype)
    first = draw(3, max(skip, 1), columns).astype(dtype)
    places = None if skip < 0 else np.random.default_rng(1).integers(0, depth, depth - skip)
    if places is not None:
        before = first[:skip] if initial else np.zeros((skip, columns), dtype)
        x = np.concatenate([before, x[places]])
    d_weight, d_bias = draw(4, rows, columns).astype(dtype), draw(5, rows).astype(dtype)
    expected = d_weight + dy.T @ x, d_bias + dy.sum(axis=0)
    scales = np.abs(d_weight) + np.abs(dy.T) @ np.abs(x), np.abs(d_bias) + np.abs(dy).sum(axis=0)
    options = {} if places is None else {"places": places, "first": first if initial else None}
    affine_of(shim).add_gradients(dy, given_x, d_weight, d_bias, **options)
    for found, right, scale in zip((d_weight, d_bias), expected, scales, strict=True):
        close(found, right, scale)


def test_one_part_is_one_launch_and_several_are_two(shim: CupyOnShim) -> None:
    for depth, launched in ((256, ["affine"]), (257, ["affine", "affine_of_parts"])):
        shim.kernels.launched.clear()
        affine_of(shim).product(np.ones((3, depth)), np.ones((depth, 2)))
        assert shim.kernels.launched == launched


@pytest.mark.parametrize("parts", [1, 3])
def test_no_order_of_the_threads_changes_a_bit(
    shim: CupyOnShim, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cut", lambda *sizes: Cut(32, parts, -(-600 // parts // 32) * 32))
    dy, x = draw(1, 600, 40).astype(np.float32), draw(2, 600, 35).astype(np.float32)
    found = []
    for shim.kernels.seed in range(3):
        grads = np.zeros((40, 35), np.float32), np.zeros(40, np.float32)
        affine_of(shim).add_gradients(dy, x, *grads)
        found.append((*grads, affine_of(shim).product(dy.T, x)))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_relu_of_infinities_and_nan_is_numpys(shim: CupyOnShim) -> None:
    x = np.array([[np.inf], [-np.inf], [np.nan], [0.0], [-1.0]], np.float32)
    factor = np.full((5, 1), 2, np.float32)
    found = affine_of(shim).product(x, np.ones((1, 1), np.float32), None, factor, relu=True)
    np.testing.assert_array_equal(found, np.maximum(x, 0) * 2)
    np.testing.assert_array_equal(factor[:, 0], [2, 0, 0, 0, 0])


@pytest.mark.parametrize("p", [0.0, 0.5])
@pytest.mark.parametrize("sizes", [(5, 20, 30, 18), (33, 128, 128, 140), (1, 1, 1, 1)])
def test_a_head_is_numpys(
    shim: CupyOnShim, sizes: tuple[int, ...], p: float, dtype: np.dtype[Any]
) -> None:
    """Outputs, gradients that are added to, and a row with two equal logits."""
    batch, features, hidden, classes = sizes
    h = draw(1, batch, features).astype(dtype)
    shapes = (hidden, features), (hidden,), (classes, hidden), (classes,)
    parameters = tuple(draw(10 + k, *shape).astype(dtype) for k, shape in enumerate(shapes))
    targets = np.random.default_rng(2).integers(0, classes, batch)
    streams = Random(3, "dropout1", 7), Random(3, "dropout2", 7)
    results = []
    with shim.xp.own_products():
        of_shim = shim.classifier_head(dtype)
    assert of_shim is not None
    for head in (of_shim, TunedHead(NUMPY)):
        grads = tuple(draw(20 + k, *shape).astype(dtype) for k, shape in enumerate(shapes))
        results.append((*head(h, targets, parameters, grads, streams, p), *grads))
    for found, expected in zip(*results, strict=True):
        bound = {"float32": 1e-4, "float64": 1e-12}[dtype.name]
        np.testing.assert_allclose(found, expected, rtol=bound, atol=bound * 10)
    launched = [name for name in shim.kernels.launched if not name.endswith("_of_parts")]
    assert len(launched) == 10


def test_of_several_largest_logits_the_first_counts(shim: CupyOnShim) -> None:
    logits = np.zeros((3, 4), np.float32)
    logits[2, 3] = 1
    with shim.xp.own_products():
        head: Any = shim.classifier_head(np.dtype(np.float32))
    for targets in ([0, 1, 3], [0, 0, 0], [3, 2, 1]):
        correct = head._losses(logits, np.array(targets))[2]
        assert int(correct) == (logits.argmax(axis=1) == targets).sum()


@pytest.mark.parametrize("kind", ["elman_tanh", "gru", "lstm"])
@pytest.mark.parametrize("looked_up", [False, True])
def test_what_a_loop_begins_with_is_that_of_several_array_calls(
    shim: CupyOnShim, kind: str, looked_up: bool, dtype: np.dtype[Any]
) -> None:
    size, gates = 7, {"elman_tanh": 1, "gru": 3, "lstm": 4}[kind]
    shapes = (gates * size, 5), (gates * size, size), (gates * size,), (gates * size,)
    weights = Weights(*(draw(k, *shape).astype(dtype) for k, shape in enumerate(shapes)))
    tokens = np.random.default_rng(1).integers(0, 9, 40)
    rows = draw(8, 9, 5).astype(dtype)
    x = LookedUp(rows, tokens) if looked_up else rows
    plain: Any = shim.recurrent_passes(kind, size, dtype)
    with shim.xp.own_products():
        captured: Any = shim.recurrent_passes(kind, size, dtype)
        expected, found = plain._begin(x, weights), captured._begin(x, weights)
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, two)  # the same product, and then the same sums


@pytest.mark.parametrize("kind", ["elman_tanh", "gru", "lstm"])
@pytest.mark.parametrize("given", [False, True])
def test_captured_passes_have_the_gradients_of_the_others(
    shim: CupyOnShim, kind: str, given: bool, dtype: np.dtype[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The loops are NumPy's here: what stands around them is compared."""
    monkeypatch.setattr(KernelPasses, "_forward", TunedPasses._forward)
    monkeypatch.setattr(KernelPasses, "_run_backward", TunedPasses._run_backward)
    size, gates = 7, {"elman_tanh": 1, "gru": 3, "lstm": 4}[kind]
    shapes = (gates * size, 5), (gates * size, size), (gates * size,), (gates * size,)
    weights = Weights(*(draw(k, *shape).astype(dtype) for k, shape in enumerate(shapes)))
    packing = Packing.of(np.array([9, 4, 4, 1]), shim)
    states = 2 if kind == "lstm" else 1
    initial = tuple(draw(20 + k, 4, size).astype(dtype) for k in range(states)) if given else None
    x = LookedUp(draw(8, 9, 5).astype(dtype), np.random.default_rng(1).integers(0, 9, 18))
    results = []
    for own in (True, False):
        grads = Weights(*(draw(30 + k, *shape).astype(dtype) for k, shape in enumerate(shapes)))
        d_last = tuple(draw(40 + k, 4, size).astype(dtype) for k in range(states))
        found: Any = shim.recurrent_passes(kind, size, dtype)
        if own:
            with shim.xp.own_products():
                found = shim.recurrent_passes(kind, size, dtype)
        memory = found.forward(x, weights, initial, packing)
        back = found.backward(
            None, d_last, memory, x, weights, grads, initial, packing, traced=False
        )
        results.append((back.d_x, *grads))
    for one, two in zip(*results, strict=True):
        close(one, two, 30.0)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("sum + bias[n]", "sum + bias[n / 2]"),
        ("factor[place] = active ? f", "factor[place] = active ? a"),
        ("(places ? places[k - skip]", "(places ? places[k > skip ? k - skip - 1 : 0]"),
        ("lines[i] += of_a[i];", "lines[i] = of_a[i];"),
        ("      d_bias[m] += lines[i];", "      d_bias[m] = lines[i];"),
        ("column + threadIdx.x > 0", "threadIdx.x > 0"),
        ("n == columns) {\n    d_bias[m] += sum", "n == columns) {\n    d_bias[0] += sum"),
    ],
)
def test_a_planted_mistake_is_caught(
    shim: CupyOnShim, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(file: str, function: str, *options: str) -> Any:
        made = compiled(file, tuple(declared(file, options)), options, ((right, wrong),))
        return lambda grid, block, arguments: made.launch(
            function, grid, block, arguments, seed=3, strided=True
        )

    dy, x = draw(1, 600, 40), draw(2, 600, 70)
    places, bias = np.arange(590)[::-1].copy(), draw(3, 70)
    found = []
    for get in (shim.kernels.get, broken):
        monkeypatch.setattr(shim.kernels, "get", get)
        for parts, part in ((1, 608), (2, 320)):
            monkeypatch.setattr(module, "cut", lambda *s, p=parts, q=part: Cut(32, p, q))
            grads, factor = (np.ones((40, 70)), np.ones(40)), np.ones((40, 70))
            affine_of(shim).add_gradients(dy, x, *grads, places)
            y = affine_of(shim).product(dy.T, x, bias, factor, relu=True)
            found += [np.concatenate([part.reshape(-1) for part in (*grads, factor, y)])]
    assert not np.allclose(np.stack(found[:2]), np.stack(found[2:]))


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("softmax.cu", "c < target", "c > target"),
        ("softmax.cu", "row < rows; row += THREADS", "row < rows - 1; row += THREADS"),
        ("philox.cu", "? value : (REAL)0", "? value * 2 : (REAL)0"),
    ],
)
def test_a_mistake_planted_in_a_head_is_caught(
    shim: CupyOnShim, file: str, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = shim.kernels.get

    def broken(name: str, function: str, *options: str) -> Any:
        if name != file:
            return get(name, function, *options)
        made = compiled(name, tuple(declared(name, options)), options, ((right, wrong),))
        return lambda grid, block, arguments: made.launch(function, grid, block, arguments)

    h, targets = np.ones((5, 8)), np.array([0, 0, 1, 2, 0])
    shapes = (8, 8), (8,), (4, 8), (4,)
    parameters = tuple(np.ones(shape) for shape in shapes)  # all logits of a row are equal
    streams, found = (Random(3, "dropout1", 7), Random(3, "dropout2", 7)), []
    for now in (get, broken):
        monkeypatch.setattr(shim.kernels, "get", now)
        with shim.xp.own_products():
            head: Any = shim.classifier_head(np.dtype(np.float64))
        grads = tuple(map(np.zeros, shapes))
        out = head(h, targets, parameters, grads, streams, 0.5)
        found.append([float(out.loss_sum), float(out.correct), *grads[2].reshape(-1)])
    assert not np.allclose(found[0], found[1])
