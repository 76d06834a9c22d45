"""Jacobians of the cells with gates, and their parts by gate, against nudges of one step."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Backend, Random, get_backend
from npnlp.errors import InputError
from npnlp.gradients import steps as formulas
from npnlp.gradients.jacobians import Jacobians, jacobians
from npnlp.gradients.point import COMPLEX_STEP
from npnlp.lab.starts import CELL_STARTS, jacobians_on_random, layer_at, singular_value_rows
from npnlp.layers import Packing
from npnlp.layers.recurrent.lstm import LSTM
from npnlp.layers.recurrent.memory import RecurrentTrace
from npnlp.layers.recurrent.recurrent import Recurrent
from tests.support.passes import CELLS, D, each_cell, each_gated, layer_of, with_initial
from tests.support.reference import Floats, assert_close, draw
from tests.support.unrolled import jacobian, step

H, T = 4, 7
each_kind = pytest.mark.parametrize("kind", ["default", "large", "orthogonal", "carried"])


def case(cell: str, kind: str, given: bool = True) -> tuple[Recurrent, Floats, list[Floats]]:
    layer = layer_of(cell, kind, units=H)
    states = [draw(1 + s, H) * given for s in range(len(layer.states))]
    return layer, draw(0, T, D), states


def seen_of(cell: str, kind: str, given: bool = True) -> Jacobians:
    layer, x, states = case(cell, kind, given)
    return jacobians(layer, x, *(states if given else []))


def weights_of(layer: Recurrent) -> dict[str, Floats]:
    return {name.removesuffix("_l0"): value for name, value in layer.parameters.items()}


def states_before(cell: str, kind: str, given: bool) -> list[list[Floats]]:
    """The states before each step, by the unrolled cell."""
    layer, x, states = case(cell, kind, given)
    found = [states]
    for row in x:
        found.append([state.real for state in step(cell, row, found[-1], weights_of(layer)).states])
    return found


@each_cell
@each_kind
@with_initial
def test_each_step_and_each_part_of_it_equals_the_nudges(cell: str, kind: str, given: bool) -> None:
    layer, x, _ = case(cell, kind, given)
    seen, before = seen_of(cell, kind, given), states_before(cell, kind, given)
    for t in range(1, T + 1):
        whole = jacobian(cell, x[t - 1], before[t - 1], weights_of(layer))
        assert_close(seen.step(t), whole)
        parts = seen.parts(t)
        assert set(parts) == {*layer.gates} | ({"direct"} if cell != "elman" else set())
        for gate, part in parts.items():
            nudged = jacobian(cell, x[t - 1], before[t - 1], weights_of(layer), by=gate)
            assert_close(part, nudged, floor=1e-3)
        assert_close(sum(parts.values()), seen.step(t), bound=1e-15)


@each_cell
@each_kind
def test_each_step_is_the_complex_step_of_the_layer(cell: str, kind: str) -> None:
    layer, x, _ = case(cell, kind)
    analytic, seen = layer.astype(np.complex128), seen_of(cell, kind)
    packing = Packing.of(np.array([1]), layer.backend)
    for t, before in enumerate(states_before(cell, kind, True)[:-1], start=1):
        columns = []
        for j in range(len(before) * H):
            moved = np.concatenate(before) + 1j * COMPLEX_STEP * np.eye(len(before) * H)[j]
            (_, *last), _ = analytic.forward(
                x[t - 1 : t].astype(complex), *moved.reshape(len(before), 1, H), packing=packing
            )
            columns.append(np.concatenate([state[0] for state in last]).imag / COMPLEX_STEP)
        assert_close(seen.step(t), np.array(columns).T)


@each_cell
@each_kind
@with_initial
def test_the_product_is_what_backpropagation_does(cell: str, kind: str, given: bool) -> None:
    layer, x, states = case(cell, kind, given)
    seen = seen_of(cell, kind, given)
    top = [draw(8 + s, H) for s in range(len(states))]
    packing = Packing.of(np.array([T]), layer.backend)
    rows = [state[None] for state in states] if given else []
    _, memory = layer.forward(x, *rows, packing=packing)
    traces: list[RecurrentTrace] = []
    _, *d_initial = layer.backward((None, *(d[None] for d in top)), memory, traces.append)
    for k in range(1, T + 1):
        expected = np.concatenate([d[k - 1] for d in traces[0].d_states])
        assert_close(np.concatenate(top) @ seen.to(k), expected)
    if given:
        expected = np.concatenate([d[0] for d in d_initial])
        assert_close(np.concatenate(top) @ seen.to(0), expected)


@each_cell
def test_hidden_slopes_and_weights_have_their_shapes_and_values(cell: str) -> None:
    layer, x, states = case(cell, "large")
    seen = seen_of(cell, "large")
    gates = len(layer.gates)
    assert len(seen) == T
    assert seen.size == len(layer.states) * H
    hidden = [before[0] for before in states_before(cell, "large", True)[1:]]
    assert_close(seen.hidden, hidden)
    np.testing.assert_array_equal(seen.weight_hh, layer.weight("weight_hh"))
    made = step(cell, x[0], states, weights_of(layer))
    for g, output in enumerate(made.outputs.values()):
        y = output.real
        first = seen.derivatives[0].reshape(gates, H)[g]
        last = g == gates - 1 if cell != "lstm" else g == 2  # the candidate
        assert_close(first, 1 - y**2 if last else 4 * y * (1 - y))


@each_gated
@each_kind
def test_singular_values_are_below_the_bound(cell: str, kind: str) -> None:
    seen = seen_of(cell, kind)
    values, bound = seen.singular_values(), seen.bound()
    assert values.shape == (T + 1, seen.size)
    assert bound[0] == 1
    for lag in range(T + 1):
        assert_close(values[lag], np.linalg.svd(seen.to(T - lag), compute_uv=False))
        assert values[lag].max() <= bound[lag] * (1 + 1e-12)


@each_gated
def test_each_block_of_a_step_is_below_its_number(cell: str) -> None:
    seen = seen_of(cell, "large")
    assert seen.steps is not None
    for t, numbers in enumerate(seen.steps.bounds(), start=1):
        for (m, n), number in np.ndenumerate(numbers):
            block = seen.step(t)[m * H : (m + 1) * H, n * H : (n + 1) * H]
            assert np.linalg.norm(block, 2) <= number * (1 + 1e-12)


@each_gated
def test_a_bound_without_the_direct_part_is_broken(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = CELLS[cell]
    right = formulas.FORMULAS[kind]

    def without(*given: Any) -> dict[str, Floats]:
        parts = right(*given)
        return parts | {"direct": parts["direct"] * (len(given[2][0]) > 1)}  # in norms alone

    monkeypatch.setitem(formulas.FORMULAS, kind, without)
    seen = jacobians_on_random(layer_of(cell, "carried", units=H), 30, Random(0))
    assert (seen.singular_values()[:, 0] > seen.bound() * (1 + 1e-12)).any()


@pytest.mark.parametrize("name", CELL_STARTS)
def test_the_bound_holds_along_long_sequences(name: str) -> None:
    rows = singular_value_rows(jacobians_on_random(layer_at(CELL_STARTS[name], Random(0)), 40,
                                                   Random(0)))  # fmt: skip
    assert [row["lag"] for row in rows] == list(range(41))
    for row in rows:
        assert row["smallest"] <= row["median"] <= row["largest"]
        assert row["largest"] <= row["bound"] * (1 + 1e-12)


@each_gated
def test_a_bound_too_large_for_a_number_is_infinite(cell: str) -> None:
    layer = layer_of(cell, "carried", units=H)
    layer.weight("weight_hh")[...] *= 1e60
    with np.errstate(over="ignore", invalid="ignore"):
        bound = jacobians_on_random(layer, 12, Random(0)).bound()
    assert not np.isnan(bound).any()


@each_gated
def test_the_sum_of_the_exponents_is_the_mean_log_determinant(cell: str) -> None:
    seen = seen_of(cell, "large")
    logs = [np.linalg.slogdet(seen.step(t))[1] for t in range(1, T + 1)]
    assert_close(seen.lyapunov_exponents().sum(), np.mean(logs), 1e-10)


def test_an_open_forget_gate_carries_the_cell_state_unchanged() -> None:
    """``f = 1`` and no weights: the gradient of c comes back as it went, at exponent 0."""
    layer = layer_of("lstm", units=H)
    assert isinstance(layer, LSTM)
    for name in ("weight_ih", "weight_hh", "bias_hh"):
        layer.weight(name)[...] = 0
    layer.weight("bias_ih")[layer.rows_of("forget")] = 50  # sigma(50) is 1 to the last digit
    seen = jacobians(layer, draw(0, 30, D))
    np.testing.assert_array_equal(seen.to(0)[H:, H:], np.eye(H))
    assert_close(seen.lyapunov_exponents()[:H], np.zeros(H))
    assert not seen.parts(1)["output"].any()


def test_an_update_gate_at_one_half_halves_the_gradient_each_step() -> None:
    layer = layer_of("gru", units=H)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        layer.weight(name)[...] = 0
    assert_close(jacobians(layer, draw(0, 20, D)).to(0), 0.5**20 * np.eye(H))


@each_cell
def test_states_are_given_all_or_none(cell: str) -> None:
    layer, x, states = case(cell, "default")
    with pytest.raises(InputError, match="initial states"):
        jacobians(layer, x, *states, states[0])


@each_cell
def test_a_layer_in_single_precision_is_looked_at_in_double(cell: str) -> None:
    layer, x, states = case(cell, "default")
    single = layer.astype(np.float32)
    seen = jacobians(single, x.astype(np.float32), *(s.astype(np.float32) for s in states))
    assert seen.step(1).dtype == seen.weight_hh.dtype == np.float64
    assert_close(seen.to(0), jacobians(layer, x, *states).to(0), 1e-5)


@each_cell
def test_every_backend_gives_the_same(cell: str, backend: Backend) -> None:
    found = []
    for place in (get_backend("numpy"), backend):
        _, x, states = case(cell, "default")
        layer = layer_of(cell, "default", backend=place, units=H)
        found.append(jacobians(layer, place.asarray(x), *map(place.asarray, states)).to(0))
    assert_close(found[1], found[0])


@each_cell
@pytest.mark.parametrize("times", [3, 10, 20])
def test_saturated_units_grow_as_the_determinant_says(cell: str, times: int) -> None:
    """Units whose slopes differ by many orders; some of them have none at all."""
    for seed in range(4):
        layer = CELLS[cell](D, 6, dtype=np.float64, random=Random(seed))
        for value in layer.parameters.values():
            value *= times
        seen = jacobians(layer, draw(seed, 40, D))
        logs = [np.linalg.slogdet(seen.step(t))[1] for t in range(1, 41)]
        total = seen.lyapunov_exponents().sum()
        if np.isfinite(np.mean(logs)):
            assert_close(total, np.mean(logs), 1e-11)
        else:
            assert total == -np.inf


def test_exponents_of_saturated_units_are_those_of_exact_arithmetic() -> None:
    """Slopes from 1 down to 1e-15, against Gram and Schmidt in fractions."""
    generator = np.random.default_rng(0)
    slopes, weight = 10.0 ** -generator.uniform(0, 15, (6, 4)), generator.normal(size=(4, 4))
    seen = Jacobians(np.zeros((6, 4)), slopes, weight)
    columns = [[Fraction(int(i == j)) for i in range(4)] for j in range(4)]
    for t in range(1, 7):
        rows = [[Fraction(value) for value in row] for row in seen.step(t).tolist()]
        columns = [
            [sum((r * c for r, c in zip(row, column, strict=True)), Fraction(0)) for row in rows]
            for column in columns
        ]
    squares: list[Fraction] = []
    before: list[list[Fraction]] = []
    for column in columns:  # what is left of each, orthogonal to those before
        for other, square in zip(before, squares, strict=True):
            part = sum((a * b for a, b in zip(column, other, strict=True)), Fraction(0)) / square
            column = [a - part * b for a, b in zip(column, other, strict=True)]
        before.append(column)
        squares.append(sum((a * a for a in column), Fraction(0)))
    logs = [(math.log(s.numerator) - math.log(s.denominator)) / 12 for s in squares]
    assert_close(seen.lyapunov_exponents(), np.sort(logs)[::-1], 1e-11)


@each_cell
@each_kind
def test_norms_are_those_of_the_hidden_state(cell: str, kind: str) -> None:
    seen = seen_of(cell, kind)
    expected = [np.linalg.norm(seen.to(T - lag)[:H, :H], 2) for lag in range(T + 1)]
    assert_close(seen.norms(), expected)
    assert (seen.norms() <= seen.bound() * (1 + 1e-12)).all()
