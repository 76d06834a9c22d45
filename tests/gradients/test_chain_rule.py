"""The small cases of the chain rule, against powers, numerical derivatives and the layer."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from npnlp.gradients import chain_rule as notes
from npnlp.gradients.jacobians import jacobians
from npnlp.layers import Elman
from tests.support.reference import Floats, assert_close

POINTS = [(1.0, 1.0), (1.0, 2.0), (-1.5, 0.4), (0.7, -3.0), (2.0, 0.0)]

each_point = pytest.mark.parametrize(("x", "y"), POINTS)


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.1, 1.5])
def test_a_chain_of_equal_factors_is_a_power(factor: float) -> None:
    assert_close(notes.products([factor] * 50), factor ** np.arange(51), 1e-13)


def test_a_chain_below_one_vanishes_and_above_one_explodes() -> None:
    assert notes.products([0.5] * 50)[-1] < 1e-15
    assert notes.products([1.5] * 50)[-1] > 1e8


def test_the_order_of_the_factors_is_the_order_of_the_steps() -> None:
    np.testing.assert_array_equal(notes.products([2.0, 3.0, 0.5]), [1.0, 2.0, 6.0, 3.0])
    np.testing.assert_array_equal(notes.products([]), [1.0])


@pytest.mark.parametrize(("w", "h0"), [(0.5, 0.5), (1.0, -0.3), (1.5, 0.5), (-2.0, 0.1)])
def test_the_slopes_along_the_orbit_are_those_of_an_elman_layer(w: float, h0: float) -> None:
    layer = Elman(1, 1, dtype=np.float64)
    for value in layer.parameters.values():
        value[...] = 0
    layer.parameters["weight_hh_l0"][...] = w
    seen = jacobians(layer, np.zeros((20, 1)), np.array([h0]))
    hidden, slopes = notes.tanh_orbit(w, h0, 20)
    assert_close(hidden, seen.hidden[:, 0])
    assert_close(slopes, [seen.step(t)[0, 0] for t in range(1, 21)])
    assert_close(notes.products(slopes)[-1], seen.to(0)[0, 0])


def test_the_product_along_the_orbit_is_the_derivative_of_the_end_by_the_start() -> None:
    def end(h: complex) -> complex:
        for _ in range(12):
            h = complex(np.tanh(1.2 * h))
        return h

    product = notes.products(notes.tanh_orbit(1.2, 0.4, 12)[1])[-1]
    assert_close(product, notes.complex_step(end, 0.4))


def test_a_weight_above_one_may_still_vanish() -> None:
    # At the fixed point of h = tanh(1.5 h) the slope eats the weight; at h = 0 it does not.
    assert notes.products(notes.tanh_orbit(1.5, 0.5, 50)[1])[-1] < 1e-19
    assert_close(notes.products(notes.tanh_orbit(1.5, 0.0, 50)[1]), 1.5 ** np.arange(51), 1e-13)


@each_point
def test_the_partial_derivatives_by_hand_are_right(x: float, y: float) -> None:
    for variable, by_hand in (("x", notes.dz_dx(x, y)), ("y", notes.dz_dy(x, y))):
        f, at = notes.along(variable, x, y)
        assert notes.relative_error(by_hand, notes.complex_step(f, at)) <= 1e-12
        assert notes.relative_error(by_hand, notes.central_difference(f, at)) <= 1e-7


def test_the_derivatives_at_one_point_in_whole_numbers() -> None:
    assert notes.z(1, 2) == 4 / 5
    assert notes.dz_dx(1, 2) == 8 / 5
    assert notes.dz_dy(1, 2) == -6 / 25


@each_point
def test_the_forgotten_second_term_is_caught_by_both_checks(x: float, y: float) -> None:
    f, at = notes.along("y", x, y)
    slip = notes.dz_dy_first_term(x, y)
    missing = 4 * x * x * y * y / (1 + y * y) ** 2
    assert_close(slip - notes.dz_dy(x, y), missing)
    if y:  # where y is 0, so is the term
        assert notes.relative_error(slip, notes.complex_step(f, at)) > 0.1
        assert notes.relative_error(slip, notes.central_difference(f, at)) > 0.1


@pytest.mark.parametrize(
    ("way", "step", "error"),
    [
        (notes.central_difference, 1e-2, 1e-4),
        (notes.central_difference, 1e-3, 1e-6),
        (notes.complex_step, 1e-2, 1e-4),
        (notes.complex_step, 1e-3, 1e-6),
    ],
)
def test_both_numerical_ways_are_wrong_by_the_square_of_the_step(
    way: notes.Numerical, step: float, error: float
) -> None:
    # f = exp: f''' / 6 = exp / 6, with another sign for the complex step.
    relative = abs(way(lambda v: np.exp(v), 0.3, step) / math.exp(0.3) - 1)
    assert relative == pytest.approx(error / 6, rel=1e-2)


def test_a_central_difference_runs_out_of_digits_and_a_complex_step_does_not() -> None:
    f, at = notes.along("y", 1.0, 0.5)
    true = notes.dz_dy(1.0, 0.5)
    assert notes.relative_error(notes.central_difference(f, at, 1e-15), true) > 1e-3
    assert notes.relative_error(notes.complex_step(f, at, 1e-15), true) < 1e-14


@pytest.mark.parametrize(
    ("function", "gradient", "point"),
    [
        (notes.bowl, notes.bowl_gradient, [-1.3]),
        (notes.valley, notes.valley_gradient, [0.7, -2.1]),
    ],
)
def test_the_gradients_that_descent_follows_are_right(
    function: notes.Loss, gradient: notes.Gradient, point: list[float]
) -> None:
    at, h = np.array(point), 1e-6
    central = [
        (function(at + h * unit) - function(at - h * unit)) / (2 * h) for unit in np.eye(len(at))
    ]
    assert_close(gradient(at), central, 1e-8)


@pytest.mark.parametrize("eta", [0.02, 0.3, 0.5, 1.1])
def test_a_step_in_the_bowl_multiplies_the_distance(eta: float) -> None:
    path = notes.descend(notes.bowl_gradient, [0.0], eta, 10)
    assert path.shape == (11, 1)
    assert_close(path[:, 0] - 3, -3 * (1 - 2 * eta) ** np.arange(11))


@pytest.mark.parametrize("eta", [0.01, 0.17, 0.22])
def test_a_step_in_the_valley_multiplies_each_coordinate(eta: float) -> None:
    path = notes.descend(notes.valley_gradient, [-4.0, 1.0], eta, 10)
    steps = np.arange(11)
    assert_close(path, np.stack([-4 * (1 - eta) ** steps, (1 - 10 * eta) ** steps], axis=1))


def losses(eta: float) -> Floats:
    path = notes.descend(notes.valley_gradient, [-4.0, 1.0], eta, 15)
    return np.array([notes.valley(w) for w in path])


def test_a_rate_that_is_too_small_crawls_and_one_too_large_leaves() -> None:
    small, right, large = losses(0.01), losses(0.17), losses(0.22)
    assert (np.diff(small) < 0).all()
    assert small[-1] > 100 * right[-1]
    assert large[-1] > 50 * large[0]


def test_the_hand_calculation_is_the_layers() -> None:
    step = notes.ElmanStep()
    layer = step.by_layer()
    by_hand = {line.quantity: line.value for line in step.by_hand()}
    shown = {name for name in by_hand if not name.startswith(("a[", "phi'"))}
    assert set(layer) == shown
    assert len(layer) == 2 + 2 + 4 + 4 + 2 + 2
    for name, value in layer.items():
        assert abs(by_hand[name] - value) <= 1e-12, name


def test_other_numbers_give_the_same_by_hand_and_by_layer() -> None:
    step = notes.ElmanStep(
        x=(0.3, 2.0), h_prev=(-0.9, 0.1), w_ih=((1.0, -1.0), (0.5, 0.25)),
        w_hh=((-2.0, 0.3), (1.1, -0.7)), b_ih=(0.0, 1.0), b_hh=(-0.5, 0.2), d=(-1.0, 0.5),
    )  # fmt: skip
    layer = step.by_layer()
    for line in step.by_hand():
        if line.quantity in layer:
            assert abs(line.value - layer[line.quantity]) <= 1e-12, line.quantity


def test_the_hand_calculation_by_complex_step() -> None:
    step = notes.ElmanStep()
    by_hand = {line.quantity: line.value for line in step.by_hand()}
    for i in (0, 1):
        for j in (0, 1):

            def loss(w: complex, i: int = i, j: int = j) -> complex:
                w_hh = np.array(step.w_hh, dtype=complex)
                w_hh[i, j] = w
                a = np.array(step.w_ih) @ step.x + w_hh @ step.h_prev
                h = np.tanh(a + np.array(step.b_ih) + np.array(step.b_hh))
                return complex(h @ np.array(step.d))

            assert_close(by_hand[f"dL/dW_hh[{i},{j}]"], notes.complex_step(loss, step.w_hh[i][j]))


def test_every_line_in_numbers_comes_to_its_result() -> None:
    """``0.6*1 + (-0.2)*(-0.5) + ...`` is worked out again; inner results have four digits."""
    sums = [
        line for line in notes.ElmanStep().by_hand() if re.fullmatch(r"[-+*().\de ]+", line.numbers)
    ]
    assert len(sums) == 2 + 2 + 4 + 4 + 2 + 2
    for line in sums:
        if "^" in line.numbers:
            continue
        terms = [
            math.prod(float(number.strip("()")) for number in term.split("*"))
            for term in line.numbers.split(" + ")
        ]
        assert sum(terms) == pytest.approx(line.value, abs=2e-3), line.quantity


def test_the_kept_results_are_those_of_the_functions() -> None:
    kept = Path(__file__).resolve().parents[2] / "docs/results"
    chains = pd.read_csv(kept / "chain_rule_products.csv")
    for chain, rows in chains.groupby("chain"):
        w, *h0 = [float(number) for number in re.findall(r"\d\.\d", str(chain))]
        steps = len(rows) - 1
        factors = notes.tanh_orbit(w, h0[0], steps)[1] if h0 else np.full(steps, w)
        assert_close(rows["product"], notes.products(factors))
    step = pd.read_csv(kept / "chain_rule_elman_step.csv")
    by_hand = {line.quantity: line.value for line in notes.ElmanStep().by_hand()}
    assert list(step["quantity"]) == list(by_hand)
    assert_close(step["by_hand"], list(by_hand.values()))
    assert step["difference"].max() <= 1e-12
