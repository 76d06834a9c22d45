"""Mean-field theory against known values, integrals, loops, and wide layers that are run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random
from npnlp.errors import InputError
from npnlp.gradients import shared_weights
from npnlp.gradients.flow import gradient_flow
from npnlp.gradients.jacobians import Jacobians, jacobians
from npnlp.gradients.mean_field import fixed_point, growth, mean_field
from npnlp.gradients.steps import Steps, gru, steps_of
from npnlp.gradients.units import mean_square, normal
from npnlp.lab.starts import trace_on_random
from npnlp.layers import LSTM, Elman
from npnlp.layers.recurrent.recurrent import Recurrent
from tests.support.passes import CELLS, Pass, each_cell, each_gated, layer_of
from tests.support.reference import PHI_PRIME, Floats, assert_close, draw

#: Units of a wide layer.
WIDE = 192
NO_SUMS = np.zeros((2, 2, 1))


def elman(phi: str = "tanh") -> Elman:
    return Elman(1, 1, nonlinearity=phi, dtype=np.float64)


def sums(variance: float) -> Floats:
    """One gate whose input has this variance, and nothing else."""
    found = NO_SUMS.copy()
    found[0, 1] = variance
    return found


@pytest.mark.parametrize("variance", [0.1, 1 / 3, 0.9])
def test_below_the_critical_point_tanh_is_at_rest_and_chi_is_the_variance(variance: float) -> None:
    found = fixed_point(elman(), [variance], NO_SUMS)
    assert found.squares[0] < 1e-12
    assert_close(found.chi, np.array([[variance]]), 1e-9)
    assert_close(found.factor, math.sqrt(variance), 1e-9)


def test_at_the_critical_point_a_gradient_neither_grows_nor_shrinks() -> None:
    """``v = 1``: q falls to 0 slowly, as ``1 / (2 t)``, and chi is ``1 - 2 q``."""
    assert_close(fixed_point(elman(), [1.0], NO_SUMS).factor, 1.0, 1e-3)
    assert fixed_point(elman(), [1.1], NO_SUMS).factor > 1.001
    assert fixed_point(elman(), [0.9], NO_SUMS).factor < 0.99


def test_the_published_point_on_the_edge_of_chaos() -> None:
    """tanh at ``sigma_w^2 = 1.76, sigma_b^2 = 0.05``: Schoenholz et al., 2017, section 4."""
    assert_close(fixed_point(elman(), [1.76], sums(0.05)).chi, np.array([[1.0]]), 0.01)


@pytest.mark.parametrize("variance", [0.5, 1.5, 3.0])
def test_relu_has_half_the_variance_at_any_size(variance: float) -> None:
    with np.errstate(over="ignore"):
        found = fixed_point(elman("relu"), [variance], sums(0.3))
    assert_close(found.chi, np.array([[variance / 2]]))
    if variance < 2:
        assert_close(found.squares[0], (variance * found.squares[0] + 0.3) / 2, 1e-9)
        assert_close(found.squares[0], 0.15 / (1 - variance / 2), 1e-9)


@pytest.mark.parametrize("variance", [0.2, 1.0, 2.5])
def test_the_fixed_point_is_that_of_a_fine_integral(variance: float) -> None:
    """(2) and (1) by the trapezoid rule, which is exact for such functions to rounding."""
    z, step = np.linspace(-12, 12, 4001, retstep=True)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * step
    q = 1.0
    for _ in range(500):
        q = variance * density @ np.tanh(math.sqrt(q) * z) ** 2 + 0.4
    chi = variance * density @ (1 - np.tanh(math.sqrt(q) * z) ** 2) ** 2
    found = fixed_point(elman(), [variance], sums(0.4))
    assert_close(found.chi, np.array([[chi]]), 1e-6)
    assert_close(variance * found.squares[0] + 0.4, q, 1e-6)


def mean(function: Callable[[Floats], Floats], variance: float) -> float:
    """Of a normal number with mean 0, by the trapezoid rule."""
    z, step = np.linspace(-12, 12, 4001, retstep=True)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * step
    return float(density @ function(math.sqrt(variance) * z))


def test_the_fixed_point_of_an_lstm_is_that_of_its_gates_one_by_one() -> None:
    """Its gates are independent, so that the mean of a product is the product of means."""
    layer, v, of_sums = LSTM(1, 1, dtype=np.float64), [0.5, 0.8, 1.1, 0.3], np.zeros((2, 2, 4))
    of_sums[0, 1] = [0.3, 0.2, 0.4, 0.1]
    found = fixed_point(layer, v, of_sums)
    square, of_c = found.squares
    i, f, g, _ = (variance * square + u for variance, u in zip(v, of_sums[0, 1], strict=True))

    def sigma(a: Floats) -> Floats:
        return np.asarray(1 / (1 + np.exp(-a)))

    def slope(a: Floats) -> Floats:
        return np.asarray(sigma(a) * (1 - sigma(a)))

    open_squares = [mean(lambda a: sigma(a) ** 2, variance) for variance in (i, f)]
    slopes = [mean(lambda a: slope(a) ** 2, variance) for variance in (i, f)]
    g_square = mean(lambda a: np.tanh(a) ** 2, g)
    g_slope = mean(lambda a: (1 - np.tanh(a) ** 2) ** 2, g)
    assert_close(of_c, open_squares[0] * g_square / (1 - open_squares[1]), 2e-3)
    to_h = v[0] * slopes[0] * g_square + v[1] * slopes[1] * of_c + v[2] * open_squares[0] * g_slope
    assert_close(found.chi[1], np.array([to_h, open_squares[1]]), 2e-3)


@pytest.mark.parametrize("cell", ["gru", "before"])
def test_a_gru_at_rest_is_what_it_comes_to(cell: str) -> None:
    layer = CELLS[cell](WIDE, WIDE, dtype=np.float64, random=Random(1))
    trace = trace_on_random(layer, 30, 8, Random(5))
    at_rest = trace.cache.packing.steps > 10
    found = mean_field(layer, np.asarray(trace.cache.x))
    assert_close(found.chi, growth(steps_of(layer, trace.cache))[at_rest].mean(axis=0), 0.02)
    assert_close(found.squares[0], (trace.cache.hidden[at_rest] ** 2).mean(), 0.1)


def test_moments_of_the_normal_distribution() -> None:
    (z,) = normal((0.0, 4.0))
    assert_close(mean_square(z), 4.0)
    assert_close(mean_square(z**2), 3 * 16.0)
    x, y = normal((1.0, 2.0), (3.0, 0.5))
    assert_close(mean_square(x + y), 16 + 2.5)
    assert_close(mean_square(x * y), (1 + 2) * (9 + 0.5))


def test_growth_of_elman_is_the_mean_square_of_the_slopes_in_loops() -> None:
    layer = layer_of("elman", "large")
    trace, _ = Pass(layer, "elman").back()
    chi = growth(steps_of(layer, trace.cache))
    weight = layer.weight("weight_hh")
    variance = sum(float(w) ** 2 for w in weight.ravel()) / len(weight)
    for row, h in enumerate(trace.cache.hidden):
        slopes = [PHI_PRIME["tanh"](math.atanh(value)) for value in h]
        expected = variance * sum(slope**2 for slope in slopes) / len(slopes)
        assert_close(chi[row], np.array([[expected]]))


@each_cell
def test_growth_of_a_matrix_of_one_unit_is_the_square_of_its_terms(cell: str) -> None:
    """With one unit and one term there is nothing to average: the Jacobian itself, squared."""
    layer = layer_of(cell, "large", units=1)
    trace, _ = Pass(layer, cell).back()
    steps = steps_of(layer, trace.cache)
    for row, chi in enumerate(growth(steps)):
        parts = steps.parts(row)
        squares: Floats = np.sum([part**2 for part in parts.values()], axis=0)
        if cell == "before":  # one of its terms is a sum of two
            r, _, n = (float(f[row, 0]) for f in steps.slopes)
            w_r, _, w_n = (float(w[0, 0]) for w in steps.weights)
            squares = squares - parts["new"] ** 2 - parts["reset"] ** 2
            squares += (n * w_n) ** 2 * (float(steps.carried[1][row, 0]) ** 2 + (r * w_r) ** 2)
        assert_close(chi, squares)


def run(layer: Recurrent, length: int = 21, batch: int = 24) -> tuple[float, Any]:
    """The factor a step that a wide layer has over 20 steps, and its trace."""
    trace = trace_on_random(layer, length, batch, Random(5))
    squares, lags = (trace.d_hidden**2).sum(axis=1), trace.cache.packing.lags
    ratio = squares[lags == 20].mean() / squares[lags == 0].mean()
    return float(ratio ** (1 / 40)), trace


@pytest.mark.parametrize("inputs", [8, WIDE // 2])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_a_wide_tanh_layer_does_what_the_theory_says(scale: float, inputs: int) -> None:
    layer = Elman(inputs, WIDE, dtype=np.float64, random=Random(1))
    layer.weight("weight_hh")[...] *= scale
    measured, trace = run(layer)
    from_inputs = mean_field(layer, trace.cache.x).factor
    from_activations = math.sqrt(growth(steps_of(layer, trace.cache)).mean())
    assert_close(from_inputs, measured, 0.03)
    assert_close(from_activations, measured, 0.03)
    flow = gradient_flow(trace).table()
    assert_close(flow[20, -1] / flow[0, -1], from_activations**20, 0.2)


@each_gated
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_wide_gates_do_what_the_theory_of_shared_weights_says(cell: str, scale: float) -> None:
    """And not what that of new weights in each step says."""
    layer = CELLS[cell](8, WIDE, dtype=np.float64, random=Random(1))
    layer.weight("weight_hh")[...] *= scale
    measured, trace = run(layer)
    x = np.asarray(trace.cache.x).reshape(21, 24, 8)[:, 0]
    predicted = jacobians(layer, x).mean_field()
    assert_close(predicted[20] ** (1 / 20), measured, 0.03)
    assert mean_field(layer, trace.cache.x).factor < 0.96 * measured


def test_of_elman_both_theories_are_the_same() -> None:
    layer = layer_of("elman", "large", units=6)
    seen = jacobians(layer, draw(0, 12, 2))
    assert seen.steps is not None
    factors = growth(seen.steps)[::-1, 0, 0]
    assert_close(seen.mean_field(), np.sqrt(np.concatenate([[1.0], np.cumprod(factors)])))
    plain = Jacobians(seen.hidden, seen.derivatives, seen.weight_hh)
    assert_close(plain.mean_field(), seen.mean_field())


@pytest.mark.parametrize(("kept", "slope"), [(0.5, 0.3), (0.9, 0.1), (0.0, 1.2)])
def test_open_gates_that_stay_as_they_are_add_up_as_the_binomial(kept: float, slope: float) -> None:
    """``d_k = (z + F W^T)^k d_0``: the k over j ways to j weights all arrive in one direction."""
    rng, length, size = np.random.default_rng(0), 8, 5
    weights = tuple(rng.normal(size=(size, size)) for _ in range(3))
    zero, full = np.zeros((length, size)), np.full((length, size), slope)
    of_gru = Steps(gru, (zero, zero, full, full), (zero + kept,), weights, None)  # type: ignore[arg-type]
    variance = float((weights[2] ** 2).sum()) / size * slope**2
    expected = [
        sum((math.comb(k, j) * kept ** (k - j)) ** 2 * variance**j for j in range(k + 1))
        for k in range(length + 1)
    ]
    assert_close(shared_weights.predicted(of_gru), np.sqrt(expected))


def test_an_open_forget_gate_hands_all_of_it_on() -> None:
    """No weights, f = 1: what reaches c stays, and each step adds what it gets by h_T alone."""
    layer = LSTM(2, 4, dtype=np.float64)
    for name in ("weight_ih", "weight_hh", "bias_hh"):
        layer.weight(name)[...] = 0
    layer.weight("bias_ih")[layer.rows_of("forget")] = 50
    seen = jacobians(layer, draw(0, 6, 2))
    assert_close(seen.mean_field()[1:], np.zeros(6))
    assert seen.steps is not None
    assert_close(growth(seen.steps)[0][1, 1], 1.0)


def test_a_bias_of_the_forget_gate_is_in_the_theory() -> None:
    factors = []
    for bias in (None, 1.0, 3.0):
        layer = LSTM(8, 64, forget_bias=bias, dtype=np.float64, random=Random(0))
        factors.append(mean_field(layer, draw(0, 50, 8)).factor)
    assert factors == sorted(factors)
    assert factors[-1] > 0.9


def test_what_has_no_theory_is_named() -> None:
    class Other(Recurrent):
        gates = ("hidden",)
        step, step_backward = Elman.step, Elman.step_backward

    with pytest.raises(InputError, match="no mean-field theory of Other; there is one of Elman"):
        mean_field(Other(2, 3, dtype=np.float64), draw(0, 4, 2))
    steps = jacobians(layer_of("elman"), draw(0, 3, 2)).steps
    assert steps is not None

    def own(*parts: Any) -> Any:
        return steps.formula(*parts)

    other = Steps(own, steps.slopes, steps.carried, steps.weights, steps.rounding)
    with pytest.raises(InputError, match="no mean-field theory of the formula own"):
        shared_weights.predicted(other)
