"""Linear, ReLU, Dropout and Embedding against loops, and what all layers promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Backend, Random, get_backend
from npnlp.errors import InputError
from npnlp.gradients import check_adjoint, check_gradients
from npnlp.layers import (
    Dropout,
    Elman,
    Embedding,
    FlatParameters,
    Layer,
    LayerOptions,
    Linear,
    Packing,
    ReLU,
)
from npnlp.layers.recurrent.gru import GRU, GRUResetBefore
from npnlp.layers.recurrent.lstm import LSTM
from npnlp.layers.recurrent.recurrent import Recurrent
from npnlp.training.optimizers import SGD, Adam
from tests.support import reference
from tests.support.reference import BOUNDS, assert_close, draw, host

NUMPY = get_backend("numpy")
DOUBLE: LayerOptions = {"dtype": np.float64}


@dataclass(frozen=True)
class Case:
    """How to make a layer, and inputs of ``rows`` rows for it."""

    make: Callable[[LayerOptions], Any]
    inputs: Callable[[Backend, int], tuple[Any, ...]]


def numbers(backend: Backend, rows: int) -> tuple[Any, ...]:
    """Away from ReLU's kink at zero, on both sides of it."""
    x = draw(rows, rows, 3)
    return (backend.asarray(x + 0.1 * np.sign(x)),)


def masked(backend: Backend, rows: int) -> tuple[Any, ...]:
    return (*numbers(backend, rows), Random(3, "mask"))


def token_rows(backend: Backend, rows: int) -> tuple[Any, ...]:
    return (backend.asarray(np.random.default_rng(rows).integers(1, 6, rows)),)


CASES = {
    "Linear": Case(lambda options: Linear(3, 4, **options), numbers),
    "ReLU": Case(lambda options: ReLU(**options), numbers),
    "Dropout": Case(lambda options: Dropout(0.4, **options), masked),
    "Dropout in evaluation": Case(lambda options: Dropout(0.4, **options), numbers),
    "Embedding": Case(lambda options: Embedding(6, 3, **options), token_rows),
    "Embedding with padding": Case(
        lambda options: Embedding(6, 3, padding_idx=0, **options), token_rows
    ),
}
each_layer = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@each_layer
@pytest.mark.parametrize("rows", [1, 7])
def test_gradients_by_complex_step(case: Case, rows: int, backend: Backend) -> None:
    layer = case.make({"dtype": np.float64, "backend": backend})
    report = check_gradients(layer, *case.inputs(backend, rows))
    assert report.passed, str(report)


@each_layer
@pytest.mark.parametrize("rows", [1, 7])
def test_gradients_by_central_difference(case: Case, rows: int) -> None:
    report = check_gradients(case.make(DOUBLE), *case.inputs(NUMPY, rows), method="central")
    assert report.passed, str(report)


@each_layer
def test_adjoint_at_full_size(case: Case, backend: Backend) -> None:
    layer = case.make({"dtype": np.float64, "backend": backend})
    report = check_adjoint(layer, *case.inputs(backend, 1024))
    assert report.passed, str(report)


@each_layer
def test_gradients_add_and_a_second_backward_pass_agrees(case: Case, backend: Backend) -> None:
    layer = case.make({"dtype": np.float64, "backend": backend})
    y, cache = layer.forward(*case.inputs(backend, 5))
    dy = backend.asarray(draw(9, *y.shape))
    d_x = layer.backward(dy, cache)
    once = host(backend, layer.grads)
    again = layer.backward(dy, cache)
    if d_x is not None:
        np.testing.assert_array_equal(backend.to_numpy(d_x), backend.to_numpy(again))
    for name, grad in host(backend, layer.grads).items():
        assert np.abs(once[name]).max() > 0
        np.testing.assert_array_equal(grad, 2 * once[name])


@each_layer
def test_float32_stays_float32(case: Case, backend: Backend) -> None:
    layer = case.make({"dtype": np.float32, "backend": backend})
    inputs = case.inputs(backend, 5)
    if inputs[0].dtype.kind == "f":
        inputs = (inputs[0].astype(np.float32), *inputs[1:])
    y, cache = layer.forward(*inputs)
    d_x = layer.backward(y, cache)
    assert y.dtype == np.float32
    assert d_x is None or d_x.dtype == np.float32
    assert all(grad.dtype == np.float32 for grad in layer.grads.values())


def test_linear_equals_the_loops(backend: Backend, dtype: np.dtype[Any]) -> None:
    layer = Linear(4, 3, backend=backend, dtype=dtype)
    weight, bias = host(backend, layer.parameters).values()
    x, dy = draw(0, 6, 4).astype(dtype), draw(1, 6, 3).astype(dtype)
    y, cache = layer.forward(backend.asarray(x))
    d_x = layer.backward(backend.asarray(dy), cache)
    bound = BOUNDS[dtype.name]
    assert_close(y, reference.linear(x, weight, bias), bound, backend)
    expected = reference.linear_backward(x, weight, dy)
    found = (d_x, layer.grads["weight"], layer.grads["bias"])
    for gradient, wanted in zip(found, expected, strict=True):
        assert_close(gradient, wanted, bound, backend)


def test_a_layer_run_twice_adds_the_gradients_of_both_runs(backend: Backend) -> None:
    layer = Linear(4, 3, backend=backend, dtype=np.float64)
    weight = backend.to_numpy(layer.parameters["weight"]).copy()
    xs, dys = [draw(0, 6, 4), draw(1, 2, 4)], [draw(2, 6, 3), draw(3, 2, 3)]
    caches = [layer.forward(backend.asarray(x))[1] for x in xs]
    for dy, cache in zip(dys, caches, strict=True):
        layer.backward(backend.asarray(dy), cache)
    parts = [reference.linear_backward(x, weight, dy) for x, dy in zip(xs, dys, strict=True)]
    assert_close(layer.grads["weight"], parts[0][1] + parts[1][1], backend=backend)
    assert_close(layer.grads["bias"], parts[0][2] + parts[1][2], backend=backend)


def test_relu_by_hand(backend: Backend) -> None:
    layer = ReLU(backend=backend, dtype=np.float64)
    y, cache = layer.forward(backend.asarray(np.array([-2.0, -0.0, 0.0, 0.5, 3.0])))
    assert backend.to_numpy(y).tolist() == [0, 0, 0, 0.5, 3.0]
    d_x = layer.backward(backend.asarray(np.array([1.0, 2.0, 3.0, 4.0, 5.0])), cache)
    assert backend.to_numpy(d_x).tolist() == [0, 0, 0, 4.0, 5.0]


def test_relu_of_infinity_is_the_maximum_with_zero() -> None:
    y, _ = ReLU().forward(np.array([-np.inf, np.inf], dtype=np.float32))
    assert y.tolist() == [0.0, np.inf]


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_dropout_scales_what_it_keeps(p: float, backend: Backend, dtype: np.dtype[Any]) -> None:
    layer = Dropout(p, backend=backend, dtype=dtype)
    x, dy = draw(0, 50, 40).astype(dtype), draw(1, 50, 40).astype(dtype)
    random = Random(5, "mask")
    y, cache = layer.forward(backend.asarray(x), random)
    d_x = layer.backward(backend.asarray(dy), cache)
    mask = random.keep(x.shape, p)
    assert_close(y, np.where(mask, x / (1 - p), 0), BOUNDS[dtype.name], backend)
    assert_close(d_x, np.where(mask, dy / (1 - p), 0), BOUNDS[dtype.name], backend)
    assert abs(mask.mean() - (1 - p)) < 0.05


def test_dropout_does_nothing_in_evaluation(backend: Backend) -> None:
    layer, x = Dropout(0.5, backend=backend), backend.asarray(draw(0, 4, 4))
    y, cache = layer.forward(x)
    np.testing.assert_array_equal(backend.to_numpy(y), draw(0, 4, 4))
    d_x = layer.backward(backend.asarray(draw(1, 4, 4)), cache)
    np.testing.assert_array_equal(backend.to_numpy(d_x), draw(1, 4, 4))


def test_dropout_in_another_dtype_scales_in_that_dtype() -> None:
    layer = Dropout(0.3).astype(np.float64)
    y, _ = layer.forward(np.ones((50, 4)), Random(0))
    assert_close(y.max(), 1 / 0.7)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_dropout_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(InputError, match="p of Dropout is"):
        Dropout(p)


@pytest.mark.parametrize("padding_idx", [None, 0, 2])
def test_embedding_equals_the_loops(padding_idx: int | None, backend: Backend) -> None:
    layer = Embedding(5, 3, padding_idx=padding_idx, backend=backend, dtype=np.float64)
    table = backend.to_numpy(layer.parameters["weight"]).copy()
    tokens, dy = [1, 4, 1, 0, 2, 1], draw(0, 6, 3)
    y, cache = layer.forward(backend.asarray(np.array(tokens)))
    layer.backward(backend.asarray(dy), cache)
    expected = reference.segment_sum(dy, tokens, 5)
    if padding_idx is not None:
        assert not table[padding_idx].any()
        expected[padding_idx] = 0
    np.testing.assert_array_equal(backend.to_numpy(y), [table[token] for token in tokens])
    assert_close(layer.grads["weight"], expected, backend=backend)


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_the_padding_row_stays_zero_through_updates(
    optimizer: type[SGD] | type[Adam], backend: Backend
) -> None:
    layer = Embedding(5, 3, padding_idx=0, backend=backend, dtype=np.float64)
    flat = FlatParameters({"emb": layer}, backend)
    updates = optimizer(flat, backend, 0.1)
    before = backend.to_numpy(layer.parameters["weight"]).copy()
    tokens = backend.asarray(np.array([0, 1, 0, 3]))
    for step in range(3):
        _, cache = layer.forward(tokens)
        layer.zero_grads()
        layer.backward(backend.asarray(draw(step, 4, 3)), cache)
        updates.step()
    after = backend.to_numpy(layer.parameters["weight"])
    assert not after[0].any()
    assert (after[[1, 3]] != before[[1, 3]]).all()
    np.testing.assert_array_equal(after[[2, 4]], before[[2, 4]])


LAYERS_WITH_WEIGHTS: dict[str, Callable[[LayerOptions], Layer]] = {
    "Linear": lambda options: Linear(40, 50, **options),
    "Elman": lambda options: Elman(30, 40, **options),
    "LSTM": lambda options: LSTM(30, 40, **options),
    "GRU": lambda options: GRU(30, 40, **options),
    "GRUResetBefore": lambda options: GRUResetBefore(30, 40, **options),
}


@pytest.mark.parametrize("make", LAYERS_WITH_WEIGHTS.values(), ids=LAYERS_WITH_WEIGHTS.keys())
def test_weights_start_uniform_within_one_over_the_root(
    make: Callable[[LayerOptions], Layer],
) -> None:
    # in_features of Linear, hidden_size of the recurrent layers: both are 40 here
    bound = 1 / np.sqrt(40)
    for name, value in make(DOUBLE).parameters.items():
        assert np.abs(value).max() < bound, name
        assert np.abs(value).max() > 0.9 * bound, name
        spread = bound / np.sqrt(3)
        assert abs(value.mean()) < 4 * spread / np.sqrt(value.size), name
        assert abs(value.std() / spread - 1) < 3 / np.sqrt(value.size), name


def test_an_embedding_starts_standard_normal_but_for_padding() -> None:
    weight = Embedding(200, 50, padding_idx=7, **DOUBLE).parameters["weight"]
    assert not weight[7].any()
    rest = np.delete(weight, 7, axis=0)
    assert abs(rest.mean()) < 4 / np.sqrt(rest.size)
    assert abs(rest.std() - 1) < 4 / np.sqrt(rest.size)


def test_weights_depend_on_the_stream_and_not_on_dtype_or_backend(backend: Backend) -> None:
    def weights(seed: int, dtype: Any) -> Any:
        layer = Linear(3, 4, backend=backend, dtype=dtype, random=Random(seed, "fc1"))
        return backend.to_numpy(layer.parameters["weight"])

    numpys = Linear(3, 4, dtype=np.float64, random=Random(1, "fc1")).parameters["weight"]
    np.testing.assert_array_equal(weights(1, np.float64), numpys)
    np.testing.assert_array_equal(weights(1, np.float32), numpys.astype(np.float32))
    assert (weights(2, np.float64) != numpys).all()


@pytest.mark.parametrize("cell", [Elman, LSTM, GRU, GRUResetBefore])
def test_every_parameter_has_a_stream_of_its_own_name(cell: Callable[..., Layer]) -> None:
    random = Random(7, "rnn")
    parameters = cell(4, 4, dtype=np.float64, random=random).parameters
    assert list(parameters) == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    for name, value in parameters.items():
        np.testing.assert_array_equal(value, random.child(name).uniform(value.shape, -0.5, 0.5))
    firsts = {float(value.reshape(-1)[0]) for value in parameters.values()}
    assert len(firsts) == 4


def test_a_copy_in_another_dtype_shares_nothing() -> None:
    layer = Linear(3, 4)
    layer.grads["weight"] += 1
    before = layer.parameters["weight"].copy()
    twin = layer.astype(np.float64)
    assert twin.dtype == np.float64
    np.testing.assert_array_equal(twin.parameters["weight"], before)
    assert not twin.grads["weight"].any()
    twin.parameters["weight"] += 1
    twin.grads["weight"] += 5
    np.testing.assert_array_equal(layer.parameters["weight"], before)
    assert (layer.grads["weight"] == 1).all()


def test_a_copy_in_the_same_dtype_shares_nothing() -> None:
    layer = Linear(3, 4)
    before = layer.parameters["weight"].copy()
    layer.astype(np.float32).parameters["weight"] += 1
    np.testing.assert_array_equal(layer.parameters["weight"], before)


def test_one_buffer_holds_all_parameters_and_one_all_gradients(backend: Backend) -> None:
    layers = {"a": Linear(2, 3, backend=backend), "b": Linear(3, 1, backend=backend)}
    before = {f"{key}.{name}": value
              for key, layer in layers.items()
              for name, value in host(backend, layer.parameters).items()}  # fmt: skip
    flat = FlatParameters(layers, backend)
    assert list(flat.parameters) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    joined = np.concatenate([value.reshape(-1) for value in before.values()])
    np.testing.assert_array_equal(backend.to_numpy(flat.values), joined)
    flat.values += 1
    flat.grads += 2
    for name, value in before.items():
        key, parameter = name.split(".")
        found = backend.to_numpy(layers[key].parameters[parameter])
        np.testing.assert_array_equal(found, value + 1)
        assert (backend.to_numpy(layers[key].grads[parameter]) == 2).all()
    layers["b"].grads["bias"] += 1
    assert backend.to_numpy(flat.grads).sum() == 2 * joined.size + 1
    assert [float(grad.sum()) for grad in flat.views_of_grads.values()] == [12.0, 6.0, 6.0, 3.0]


@pytest.mark.parametrize("cell", [Elman, LSTM, GRU, GRUResetBefore])
def test_packing_stays_with_the_layers_backend(
    cell: Callable[..., Recurrent], backend: Backend
) -> None:
    layer = cell(2, 3, backend=backend, dtype=np.float64)
    packing = Packing.of(np.array([1, 2]), backend)
    outputs, _ = layer.forward(backend.asarray(draw(0, 3, 2)), packing=packing)
    assert {type(y) for y in outputs} == {type(backend.zeros((1,), np.float64))}
