"""Updates, clipping and schedules against loops over single numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Backend, get_backend
from npnlp.errors import InputError
from npnlp.layers import FlatParameters, Linear
from npnlp.training.clipping import clip_grad_norm, squared_norms
from npnlp.training.optimizers import SGD, Adam, Optimizer, make_optimizer
from npnlp.training.schedule import EarlyStopping, ReduceLROnPlateau
from tests.support import reference
from tests.support.reference import BOUNDS, Floats, assert_close, draw

NUMPY = get_backend("numpy")
SIZE = 3 * 4 + 4


def parameters(backend: Backend, dtype: Any = np.float64) -> FlatParameters:
    return FlatParameters({"fc": Linear(3, 4, backend=backend, dtype=dtype)}, backend)


def gradients(count: int, scale: float = 1.0) -> list[Floats]:
    return [scale * draw(step, SIZE) for step in range(count)]


def update(optimizer: Optimizer, grads: list[Floats]) -> Floats:
    flat, backend = optimizer.flat, optimizer.backend
    for grad in grads:
        flat.grads[...] = backend.asarray(grad, dtype=flat.grads.dtype)
        optimizer.step()
    return backend.to_numpy(flat.values).copy()


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e4])
def test_adam_equals_the_algorithm(
    count: int, scale: float, backend: Backend, dtype: np.dtype[Any]
) -> None:
    flat = parameters(backend, dtype)
    before = backend.to_numpy(flat.values).copy()
    grads = [grad.astype(dtype).astype(float) for grad in gradients(count, scale)]
    optimizer = Adam(flat, backend, 0.01)
    after = update(optimizer, grads)
    weights, m, v = reference.adam(before, grads, 0.01)
    bound = BOUNDS[dtype.name]
    assert_close(after, weights, bound)
    if dtype == np.float64:  # the change alone, whatever the size of the weights
        assert_close(after - before, weights - before, 1e-11)
    moments = optimizer.state_dict()
    assert_close((1 - 0.9) * moments["first_sum"], m, bound)
    assert_close((1 - 0.999) * moments["second_sum"], v, bound)
    assert optimizer.steps == count


def test_adam_with_other_betas_and_epsilon(backend: Backend) -> None:
    flat = parameters(backend)
    before = backend.to_numpy(flat.values).copy()
    after = update(Adam(flat, backend, 0.1, betas=(0.5, 0.7), eps=0.3), gradients(5))
    assert_close(after, reference.adam(before, gradients(5), 0.1, (0.5, 0.7), 0.3)[0])


def test_adam_leaves_a_weight_without_gradient_alone(backend: Backend) -> None:
    flat = parameters(backend)
    before = backend.to_numpy(flat.values).copy()
    still = np.arange(SIZE) % 3 == 0
    after = update(Adam(flat, backend), [np.where(still, 0.0, grad) for grad in gradients(3)])
    np.testing.assert_array_equal(after == before, still)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_sgd_equals_the_loops(
    momentum: float, count: int, backend: Backend, dtype: np.dtype[Any]
) -> None:
    flat = parameters(backend, dtype)
    before = backend.to_numpy(flat.values).copy()
    optimizer = SGD(flat, backend, 0.05, momentum)
    after = update(optimizer, gradients(count))
    weights, velocity = reference.sgd(before, gradients(count), 0.05, momentum)
    assert_close(after, weights, BOUNDS[dtype.name])
    found = optimizer.state_dict()
    assert found.keys() == ({"momentum"} if momentum else set())
    if momentum:
        assert_close(found["momentum"], velocity, BOUNDS[dtype.name])


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_updates_reach_the_layer_and_leave_gradients_alone(name: str, backend: Backend) -> None:
    layer = Linear(3, 4, backend=backend, dtype=np.float64)
    flat = FlatParameters({"fc": layer}, backend)
    before = backend.to_numpy(layer.parameters["weight"]).copy()
    update(make_optimizer(name, flat, backend, 0.1, 0.5), gradients(1))
    np.testing.assert_array_equal(backend.to_numpy(flat.grads), gradients(1)[0])
    change = backend.to_numpy(layer.parameters["weight"]) - before
    assert (np.sign(change).reshape(-1) == -np.sign(gradients(1)[0][:12])).all()


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_saved_optimizer_continues_to_the_same_bits(name: str, backend: Backend) -> None:
    whole = update(make_optimizer(name, parameters(backend), backend, 0.1, 0.5), gradients(6))
    first = make_optimizer(name, parameters(backend), backend, 0.1, 0.5)
    update(first, gradients(6)[:3])
    saved, steps = first.state_dict(), first.steps
    flat = parameters(backend)
    flat.values[...] = first.flat.values
    update(first, gradients(6)[3:])  # what was saved is a copy
    second = make_optimizer(name, flat, backend, 0.1, 0.5)
    second.load_state_dict(saved, steps)
    np.testing.assert_array_equal(update(second, gradients(6)[3:]), whole)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_learning_rate_has_to_be_above_zero(name: str, rate: float) -> None:
    with pytest.raises(InputError, match="learning_rate is"):
        make_optimizer(name, parameters(NUMPY), NUMPY, rate)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"betas": (1.0, 0.999)}, r"betas\[0\] is 1\.0"),
        ({"betas": (0.9, 1.5)}, r"betas\[1\] is 1\.5"),
        ({"betas": (0.9, -0.1)}, r"betas\[1\] is -0\.1"),
        ({"betas": (0.9, float("nan"))}, r"betas\[1\] is nan"),
        ({"betas": 0.9}, r"betas is 0\.9; it has to be two numbers"),
        ({"betas": (0.9, 0.99, 0.999)}, "it has to be two numbers"),
        ({"eps": -1e-8}, "eps is -1e-08"),
        ({"eps": float("inf")}, "eps is inf"),
        ({"weight_decay": -0.1}, r"weight_decay is -0\.1"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"learning_rate": True}, "learning_rate is True"),
        ({"learning_rate": "0.1"}, r"learning_rate is '0\.1'"),
    ],
)
def test_adam_refuses_what_it_cannot_compute_with(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Adam(parameters(NUMPY), NUMPY, **options)


def test_moments_have_the_shape_of_the_parameters() -> None:
    flat = parameters(NUMPY)
    saved = Adam(flat, NUMPY).state_dict()
    for wrong, says in (
        ({"first_sum": saved["first_sum"]}, "moment second_sum is missing"),
        (saved | {"first_sum": saved["first_sum"][:1]}, r"moment first_sum has shape \(1,\)"),
    ):
        optimizer = Adam(flat, NUMPY)
        with pytest.raises(InputError, match=says):
            optimizer.load_state_dict(wrong, 3)
        assert optimizer.steps == 0


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_momentum_has_to_be_below_one(momentum: float) -> None:
    with pytest.raises(InputError, match="momentum is"):
        SGD(parameters(NUMPY), NUMPY, 0.1, momentum)


def test_an_unknown_optimizer_is_refused_with_the_choices() -> None:
    with pytest.raises(InputError, match=r"'rmsprop' is not known; choose one of adam, sgd"):
        make_optimizer("rmsprop", parameters(NUMPY), NUMPY, 0.1)


@pytest.mark.parametrize("max_norm", [0.5, 3.0, 1e9, None])
def test_clipping_cuts_the_norm_and_keeps_the_direction(
    max_norm: float | None, backend: Backend, dtype: np.dtype[Any]
) -> None:
    grad = draw(0, SIZE).astype(dtype)
    norm = math.sqrt(math.fsum(float(g) ** 2 for g in grad))
    on_backend = backend.asarray(grad.copy())
    found = clip_grad_norm(on_backend, max_norm, backend)
    assert_close(found, norm, BOUNDS[dtype.name], backend)
    factor = 1.0 if max_norm is None else min(1.0, max_norm / (norm + 1e-6))
    assert_close(on_backend, factor * grad.astype(float), BOUNDS[dtype.name], backend)
    if factor == 1.0:
        np.testing.assert_array_equal(backend.to_numpy(on_backend), grad)
    assert on_backend.dtype == dtype


def test_clipping_a_gradient_of_zero_leaves_zero(backend: Backend) -> None:
    grad = backend.zeros((4,), np.float64)
    assert float(clip_grad_norm(grad, 1.0, backend)) == 0.0
    assert backend.to_numpy(grad).tolist() == [0.0] * 4


def test_squared_norms_of_each_parameter(backend: Backend) -> None:
    flat = parameters(backend)
    flat.grads[...] = backend.asarray(draw(0, SIZE))
    found = backend.to_numpy(squared_norms(flat, backend))
    weight, bias = draw(0, SIZE)[:12], draw(0, SIZE)[12:]
    assert_close(found, [(weight**2).sum(), (bias**2).sum()])


def test_plateau_halves_after_two_bad_epochs_in_a_row() -> None:
    schedule = ReduceLROnPlateau(1.0)
    losses = [5.0, 4.0, 4.0, 3.0, 3.1, 3.2, 3.3, 3.4, 2.0, 2.0]
    assert [schedule.step(loss) for loss in losses] == [1, 1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_plateau_counts_a_hairs_breadth_and_nan_as_bad() -> None:
    schedule = ReduceLROnPlateau(1.0)
    assert [schedule.step(loss) for loss in (1.0, 0.99995, float("nan"))] == [1.0, 1.0, 0.5]
    schedule = ReduceLROnPlateau(1.0)
    assert [schedule.step(loss) for loss in (1.0, 0.9998, 0.9998, 0.9998)] == [1, 1, 1, 0.5]


def test_early_stopping_compares_with_the_best_epoch() -> None:
    stopper = EarlyStopping(patience=3)
    losses = [3.0, 2.0, 2.5, 2.4, 1.9, 2.3, 2.2, 2.1]
    assert [stopper.step(loss) for loss in losses[:-1]] == [1, 1, 0, 0, 1, 0, 0]
    before = stopper.stop
    assert not stopper.step(losses[-1])
    assert (before, stopper.stop, stopper.best) == (False, True, 1.9)


def test_early_stopping_takes_no_nan_for_the_best() -> None:
    stopper = EarlyStopping(patience=1)
    assert not stopper.step(float("nan"))
    assert stopper.stop
