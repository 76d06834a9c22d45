"""Jacobians of one sequence: backpropagation, numerical derivatives, and growth by step."""

from __future__ import annotations

import doctest
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npnlp
from npnlp.backend import Backend, Random
from npnlp.gradients.jacobians import Jacobians, jacobians
from npnlp.gradients.point import CENTRAL_STEP, COMPLEX_STEP
from npnlp.lab.starts import STARTS, jacobians_on_random, layer_at, singular_value_rows
from npnlp.layers import Elman, Packing
from npnlp.layers.recurrent.initialization import INITIALIZATIONS, initialize
from npnlp.layers.recurrent.memory import RecurrentTrace
from tests.support.reference import Floats, assert_close, draw

D, H, T = 3, 5, 9

each_phi = pytest.mark.parametrize("phi", ["tanh", "relu"])
each_kind = pytest.mark.parametrize("kind", INITIALIZATIONS)
with_h0 = pytest.mark.parametrize("with_h0", [True, False], ids=["h0", "no h0"])


def layer_of(phi: str, kind: str = "default", dtype: Any = np.float64) -> Elman:
    layer = Elman(D, H, nonlinearity=phi, dtype=dtype, random=Random(3))
    initialize(layer, kind, Random(3, "start"))
    return layer


def last_state(layer: Elman, x: Floats, start: Floats) -> Floats:
    """``h_T`` from ``h_k``, given the inputs of steps k + 1 to T."""
    if not len(x):
        return start
    packing = Packing.of(np.array([len(x)]), layer.backend)
    (_, last), _ = layer.forward(x.astype(layer.dtype), start[None], packing=packing)
    return np.asarray(last[0])


def states(seen: Jacobians, h0: Floats) -> list[Floats]:
    """``h_0, ..., h_T``."""
    return [h0, *seen.hidden]


def case(phi: str, kind: str) -> tuple[Elman, Floats, Floats, Jacobians]:
    layer, x, h0 = layer_of(phi, kind), draw(0, T, D), draw(1, H)
    return layer, x, h0, jacobians(layer, x, h0)


@each_phi
@each_kind
@with_h0
def test_the_product_is_what_backpropagation_does(phi: str, kind: str, with_h0: bool) -> None:
    layer, x, h0, _ = case(phi, kind)
    start = h0 if with_h0 else None
    seen, v = jacobians(layer, x, start), draw(2, H)
    packing = Packing.of(np.array([T]), layer.backend)
    _, memory = layer.forward(x, None if start is None else start[None], packing=packing)
    traces: list[RecurrentTrace] = []
    _, d_h0 = layer.backward((None, v[None]), memory, traces.append)
    for k in range(1, T + 1):
        assert_close(v @ seen.to(k), traces[0].d_hidden[k - 1])
    if d_h0 is not None:
        assert_close(v @ seen.to(0), d_h0[0])


@each_phi
@each_kind
def test_the_product_by_central_differences(phi: str, kind: str) -> None:
    layer, x, h0, seen = case(phi, kind)
    for k, state in enumerate(states(seen, h0)):
        columns = []
        for j in range(H):
            move = CENTRAL_STEP * np.eye(H)[j]
            above, below = (last_state(layer, x[k:], state + sign * move) for sign in (1, -1))
            columns.append((above - below) / (2 * CENTRAL_STEP))
        assert_close(seen.to(k), np.array(columns).T, 1e-6, floor=1e-3)


@each_phi
@each_kind
def test_the_product_by_complex_step(phi: str, kind: str) -> None:
    layer, x, h0, seen = case(phi, kind)
    analytic = layer.astype(np.complex128)
    for k, state in enumerate(states(seen, h0)):
        columns = [
            last_state(analytic, x[k:], state + 1j * COMPLEX_STEP * np.eye(H)[j]).imag
            / COMPLEX_STEP
            for j in range(H)
        ]
        assert_close(seen.to(k), np.array(columns).T)


@each_phi
def test_the_product_is_the_identity_at_the_end(phi: str) -> None:
    seen = case(phi, "large")[3]
    assert len(seen) == T
    np.testing.assert_array_equal(seen.to(T), np.eye(H))
    np.testing.assert_array_equal(seen.to(T - 1), seen.step(T))


@each_phi
@each_kind
def test_singular_values_are_those_of_the_products_and_below_the_bound(phi: str, kind: str) -> None:
    seen = case(phi, kind)[3]
    values, bound = seen.singular_values(), seen.bound()
    assert values.shape == (T + 1, H)
    assert bound.shape == (T + 1,)
    for lag in range(T + 1):
        expected = np.linalg.svd(seen.to(T - lag), compute_uv=False)
        assert_close(values[lag], expected)
        assert values[lag].max() <= bound[lag] * (1 + 1e-12)
    np.testing.assert_array_equal(values[0], np.ones(H))


@pytest.mark.parametrize("name", STARTS)
def test_the_bound_holds_along_long_sequences(name: str) -> None:
    layer = layer_at(STARTS[name], Random(0))
    rows = singular_value_rows(jacobians_on_random(layer, 40, Random(0)))
    assert [row["lag"] for row in rows] == list(range(41))
    for row in rows:
        assert row["smallest"] <= row["median"] <= row["largest"]
        assert row["largest"] <= row["bound"] * (1 + 1e-12)


@settings(max_examples=20)
@given(st.integers(1, 30), st.sampled_from(["default", "unit", "large", "orthogonal"]),
       st.integers(0, 99))  # fmt: skip
def test_the_sum_of_the_exponents_is_the_mean_log_determinant(
    steps: int, kind: str, seed: int
) -> None:
    seen = jacobians(layer_of("tanh", kind), draw(seed, steps, D), draw(seed + 1, H))
    logs = [np.linalg.slogdet(seen.step(t))[1] for t in range(1, steps + 1)]
    exponents = seen.lyapunov_exponents()
    assert_close(exponents.sum(), np.mean(logs), 1e-10)
    assert (np.diff(exponents) <= 0).all()


def test_a_rotation_near_the_zero_state_neither_grows_nor_shrinks() -> None:
    """At ``h = 0`` tanh has slope 1: J is W, every singular value of which is 1."""
    layer = layer_of("tanh", "orthogonal")
    for bias in ("bias_ih_l0", "bias_hh_l0"):
        layer.parameters[bias][...] = 0
    assert_close(jacobians(layer, np.zeros((50, D))).lyapunov_exponents(), np.zeros(H), 1e-12)
    near = jacobians(layer, 1e-6 * draw(0, 50, D)).lyapunov_exponents()
    assert np.abs(near).max() < 1e-8


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.7])
def test_a_scaled_permutation_with_relu_grows_at_the_log_of_its_scale(scale: float) -> None:
    """All units stay above zero, so ``J = scale P``: every exponent is ``log scale``."""
    layer = layer_of("relu", "identity")
    for name in ("weight_ih_l0", "bias_ih_l0"):
        layer.parameters[name][...] = np.abs(layer.parameters[name]) + 0.1
    layer.parameters["weight_hh_l0"][...] = scale * np.eye(H)[[1, 2, 3, 4, 0]]
    seen = jacobians(layer, np.abs(draw(0, 60, D)))
    assert_close(seen.lyapunov_exponents(), np.full(H, np.log(scale)), floor=1.0)
    assert_close(seen.singular_values()[-1], np.full(H, scale**60))


def test_a_direction_that_a_step_annihilates_has_no_growth_at_all() -> None:
    layer = layer_of("relu", "identity")
    layer.parameters["weight_ih_l0"][...] = 0
    layer.parameters["bias_ih_l0"][...] = [1, 1, 1, 1, -1]  # the last unit never fires
    exponents = jacobians(layer, np.zeros((4, D))).lyapunov_exponents()
    assert list(exponents) == [0.0, 0.0, 0.0, 0.0, -np.inf]


@each_phi
def test_a_layer_in_single_precision_is_looked_at_in_double(phi: str) -> None:
    layer, x = layer_of(phi, dtype=np.float32), draw(0, T, D).astype(np.float32)
    before = {name: value.copy() for name, value in layer.parameters.items()}
    seen, double = npnlp.jacobians(layer, x), jacobians(layer.astype(np.float64), x.astype(float))
    assert seen.hidden.dtype == seen.weight_hh.dtype == np.float64
    np.testing.assert_array_equal(seen.to(0), double.to(0))
    for name, value in layer.parameters.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, before[name])
        assert not layer.grads[name].any()


def test_every_backend_gives_the_same(backend: Backend) -> None:
    x, h0 = draw(0, T, D), draw(1, H)
    layer = Elman(D, H, backend=backend, dtype=np.float64, random=Random(3))
    seen = jacobians(layer, backend.asarray(x), backend.asarray(h0))
    assert_close(seen.to(0), jacobians(layer_of("tanh"), x, h0).to(0))


@each_phi
@each_kind
def test_norms_are_the_largest_singular_values(phi: str, kind: str) -> None:
    seen = case(phi, kind)[3]
    assert_close(seen.norms(), seen.singular_values()[:, 0])
    d = draw(4, H)
    share = seen.surviving_share(d)
    for lag in range(T + 1):
        u, s, _ = np.linalg.svd(seen.to(T - lag))
        weights = (s / s[0]) ** 2 if s[0] else 0 * s
        assert_close(share[lag], (weights * (u.T @ d) ** 2).sum() / (d @ d), 1e-9, floor=1e-9)
    assert share[0] == pytest.approx(1)


def test_the_example_of_the_module_is_right() -> None:
    tried = doctest.testmod(import_module("npnlp.gradients.jacobians"))
    assert tried.attempted > 5
    assert tried.failed == 0
