"""What docs/vanishing-gradients.md derives, held on layers, a test a claim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random
from npnlp.gradients.chain_rule import complex_step
from npnlp.gradients.flow import GradientFlow, gradient_flow
from npnlp.gradients.jacobians import Jacobians, jacobians
from npnlp.layers import Elman, Packing
from npnlp.layers.recurrent.initialization import initialize
from npnlp.layers.recurrent.memory import RecurrentTrace
from tests.support import reference
from tests.support.reference import Floats, assert_close, draw

D, H, T = 3, 5, 9

each_phi = pytest.mark.parametrize("phi", ["tanh", "relu"])
each_start = pytest.mark.parametrize("start", ["default", "small", "large", "orthogonal"])


def layer_of(phi: str, start: str = "default") -> Elman:
    layer = Elman(D, H, nonlinearity=phi, dtype=np.float64, random=Random(3))
    initialize(layer, start, Random(3, "start"))
    return layer


def back(layer: Elman) -> tuple[Jacobians, GradientFlow, Floats, Floats]:
    """Jacobians, gradient flow, ``d (T, H)`` and ``dL/dW_hh`` of one sequence."""
    x, d_last = draw(0, T, D), draw(1, 1, H)
    packing = Packing.of(np.array([T]), layer.backend)
    _, cache = layer.forward(x, packing=packing)
    traces: list[RecurrentTrace] = []
    layer.zero_grads()
    layer.backward((None, d_last), cache, probe=traces.append)
    flow = gradient_flow(traces[0])
    return jacobians(layer, x), flow, traces[0].d_hidden, layer.grads["weight_hh_l0"]


def loops_back(layer: Elman) -> list[dict[str, Floats]]:
    """The chain rule in loops, from each step's own ``d_t``: a share at a time."""
    x, h0 = draw(0, T, 1, D), np.zeros((1, H))
    weights: Any = layer.parameters
    _, _, d, _ = back(layer)
    shares = []
    hidden, _, _ = reference.elman(x, [T], h0, weights, layer.nonlinearity)
    for t in range(T):
        before = hidden[t - 1] if t else h0
        shares.append(
            reference.elman_backward(
                x[t : t + 1], [1], before, weights, np.zeros((1, 1, H)), d[t : t + 1],
                layer.nonlinearity,
            )
        )  # fmt: skip
    return shares


@each_phi
def test_the_jacobian_of_a_step_by_complex_step(phi: str) -> None:
    layer = layer_of(phi)
    seen = back(layer)[0]
    weights, x = layer.parameters, draw(0, T, D)
    bias = weights["bias_ih_l0"] + weights["bias_hh_l0"]
    for t in range(2, T + 1):
        for i in range(H):
            for j in range(H):

                def unit(value: complex, t: int = t, i: int = i, j: int = j) -> complex:
                    h = seen.hidden[t - 2].astype(complex)
                    h[j] = value
                    a = (weights["weight_ih_l0"] @ x[t - 1] + bias + weights["weight_hh_l0"] @ h)[i]
                    return complex(np.tanh(a) if phi == "tanh" else a * (a.real > 0))

                found = complex_step(unit, seen.hidden[t - 2, j])
                assert abs(seen.step(t)[i, j] - found) <= 1e-12


@each_phi
def test_the_product_of_jacobians_gives_every_gradient(phi: str) -> None:
    seen, _, d, _ = back(layer_of(phi))
    for k in range(1, T + 1):
        assert_close(d[k - 1], seen.to(k).T @ d[T - 1])


@each_phi
def test_the_shares_by_lag_are_those_of_the_steps_and_add_up(phi: str) -> None:
    layer = layer_of(phi)
    _, flow, _, gradient = back(layer)
    for t, share in enumerate(loops_back(layer)):
        assert_close(flow.shares[T - 1 - t], share["weight_hh_l0"])
    assert_close(flow.shares.sum(axis=0), gradient)


@each_phi
@each_start
def test_no_gradient_is_above_the_bound(phi: str, start: str) -> None:
    layer = layer_of(phi, start)
    seen, flow, d, _ = back(layer)
    norms = np.linalg.norm(d, axis=1)
    sigma = np.linalg.svd(layer.parameters["weight_hh_l0"], compute_uv=False)[0]
    for t in range(T, 1, -1):
        step = sigma * seen.derivatives[t - 1].max()
        assert norms[t - 2] <= step * norms[t - 1] * (1 + 1e-12)
        assert np.linalg.norm(seen.to(t - 1), 2) <= seen.bound()[T - t + 1] * (1 + 1e-12)
    assert (flow.hidden_grad <= flow.bound * (1 + 1e-12)).all()
    assert_close(flow.bound[::-1], seen.bound()[:T] * norms[-1])


def test_below_one_it_vanishes_at_least_as_fast_as_the_power() -> None:
    layer = layer_of("tanh", "small")  # sigma_max(W_hh) = 0.5
    norms = np.linalg.norm(back(layer)[2], axis=1)
    assert (norms <= 0.5 ** np.arange(T - 1, -1, -1) * norms[-1] * (1 + 1e-12)).all()


def test_the_exponents_are_those_of_a_known_product() -> None:
    steps = 40
    slopes = np.tile([[0.5, 1.0, 0.1]], (steps, 1))
    diagonal = Jacobians(np.zeros((steps, 3)), slopes, np.diag([3.0, 0.7, 2.0]))
    assert_close(diagonal.lyapunov_exponents(), np.log([1.5, 0.7, 0.2]))


@each_phi
def test_the_factors_are_the_largest_slope_and_the_singular_values(phi: str) -> None:
    layer = layer_of(phi)
    seen = back(layer)[0]
    slopes, sigma = seen.factors()
    weight = layer.parameters["weight_hh_l0"]
    phi_prime = 1 - seen.hidden**2 if phi == "tanh" else (seen.hidden > 0) * 1.0
    assert_close(slopes, phi_prime.max(axis=1))
    assert_close(sigma**2, np.linalg.eigvalsh(weight @ weight.T)[::-1])


def test_an_orthogonal_start_changes_no_length() -> None:
    weight = layer_of("tanh", "orthogonal").parameters["weight_hh_l0"]
    assert_close(weight.T @ weight, np.eye(H))
    v = draw(2, H)
    assert_close(np.linalg.norm(weight.T @ v), np.linalg.norm(v))


def test_the_identity_with_relu_brings_the_gradient_back_unchanged() -> None:
    layer = layer_of("relu", "identity")
    layer.parameters["weight_ih_l0"][...] = np.abs(layer.parameters["weight_ih_l0"])
    seen = jacobians(layer, np.abs(draw(0, T, D)))  # all units above zero
    np.testing.assert_array_equal(seen.to(0), np.eye(H))
