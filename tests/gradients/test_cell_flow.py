"""Gradient flow of the cells with gates against nudges of an unrolled cell, and its bound."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Backend, Random
from npnlp.errors import InputError
from npnlp.gradients import steps as formulas
from npnlp.gradients.flow import bounds, gradient_flow
from npnlp.gradients.rounding import norms_of
from npnlp.gradients.steps import steps_of
from npnlp.lab.starts import CELL_STARTS, flow_on_random, layer_at
from npnlp.layers import Elman, Packing
from npnlp.layers.recurrent.lstm import LSTM
from npnlp.layers.recurrent.memory import RecurrentTrace
from npnlp.layers.recurrent.recurrent import Recurrent
from tests.support.passes import (
    CELLS,
    D,
    H,
    Pass,
    case,
    each_cell,
    each_gated,
    each_kind,
    each_through,
    layer_of,
    slopes,
    with_initial,
)
from tests.support.reference import Floats, assert_close
from tests.support.unrolled import CANDIDATES

ROUNDING = {"float64": 1e-12, "float32": 1e-5}


@each_cell
@with_initial
@each_through
def test_norms_and_shares_equal_the_nudges(cell: str, given: bool, through: str) -> None:
    made, trace, grads = case(cell, given, through)
    flow = gradient_flow(trace)
    shares = np.zeros_like(flow.shares)
    for row, (t, b) in enumerate(made.places):
        unrolled = made.unrolled(b)
        for s, d_state in enumerate(trace.d_states):
            # The layer keeps c's gradient by way of later cells alone: that with h_t held.
            assert_close(d_state[row], unrolled.of_state(t, s), floor=1e-3)
        assert_close(flow.hidden_grad[row], np.linalg.norm(unrolled.of_state(t)))
        shares[made.lag(t, b)] += unrolled.share(t)
    assert_close(flow.shares, shares)
    assert_close(flow.shares.sum(axis=0), grads["weight_hh_l0"])


@each_cell
def test_saturation_is_the_mean_slope_over_the_largest(cell: str) -> None:
    made, trace, _ = case(cell, True, "last")
    flow, steps = gradient_flow(trace), made.steps()
    expected = [np.mean([slopes(step, gate) for gate in step.sums]) for step in steps]
    assert_close(flow.saturation, expected)
    assert ((flow.saturation > 0) & (flow.saturation <= 1)).all()


@each_gated
def test_gates_at_zero_are_not_saturated_and_far_from_it_they_are(cell: str) -> None:
    layer = layer_of(cell)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        layer.weight(name)[...] = 0
    np.testing.assert_array_equal(gradient_flow(Pass(layer, cell).back()[0]).saturation, 1)
    layer.weight("bias_ih")[...] = 20
    assert gradient_flow(Pass(layer, cell).back()[0]).saturation.max() < 1e-7


@each_cell
def test_the_size_of_the_weights(cell: str) -> None:
    _, trace, _ = case(cell, False, "last")
    flow, weight = gradient_flow(trace), trace.layer.weight("weight_hh")
    assert_close(flow.sigma_max, np.linalg.norm(weight, 2))
    blocks = weight.reshape(-1, H, H)
    assert_close(flow.spectral_radius, np.abs(np.linalg.eigvals(blocks)).max(), bound=1e-5)


def bound_in_loops(made: Pass) -> list[list[float]]:
    """(5) and (6) of steps.py written out, a step at a time, slopes from the unrolled sums."""
    trace, _ = made.back()
    steps, places = made.steps(), made.places
    weight = made.layer.weight("weight_hh").reshape(
        -1, made.layer.hidden_size, made.layer.hidden_size
    )
    sigma = [float(np.linalg.norm(block, 2)) for block in weight]
    found: dict[tuple[int, int], list[float]] = {}
    for row in reversed(range(len(places))):
        t, b = places[row]
        if t == made.lengths[b] - 1:
            found[t, b] = [float(np.linalg.norm(d[row])) for d in trace.d_states]
        if t == 0:
            continue
        step, above = steps[row], float(np.linalg.norm(made.d_hidden[t - 1, b]))
        y = {gate: value.real for gate, value in step.outputs.items()}
        s = {gate: slopes(step, gate) * (1 if gate in CANDIDATES else 0.25) for gate in y}
        before = steps[places.index((t - 1, b))].states

        def top(values: Any) -> float:
            return float(np.abs(values).max())

        if made.cell == "elman":
            (d,) = found[t, b]
            found[t - 1, b] = [sigma[0] * top(s["hidden"]) * d + above]
        elif made.cell == "lstm":
            (d, d_c), c = found[t, b], step.states[1].real
            s_c = top(y["output"] * (1 - np.tanh(c) ** 2))
            reached = d_c + s_c * d
            from_cell = (
                sigma[0] * top(y["candidate"] * s["input"])
                + sigma[1] * top(before[1].real * s["forget"])
                + sigma[2] * top(y["input"] * s["candidate"])
            )
            of_o = sigma[3] * top(np.tanh(c) * s["output"])
            found[t - 1, b] = [from_cell * reached + of_o * d + above, top(y["forget"]) * reached]
        else:
            (d,), h = found[t, b], before[0].real
            of_n = (1 - y["update"]) * s["new"]
            through = top(y["update"]) + sigma[1] * top((h - y["new"]) * s["update"])
            if made.cell == "gru":
                block = slice(2 * made.layer.hidden_size, None)
                q = made.layer.weight("weight_hh")[block] @ h + made.layer.weight("bias_hh")[block]
                through += sigma[0] * top(of_n * q * s["reset"]) + sigma[2] * top(of_n * y["reset"])
            else:
                of_m = top(y["reset"]) + sigma[0] * top(h * s["reset"])
                through += sigma[2] * top(of_n) * of_m
            found[t - 1, b] = [through * d + above]
    return [found[place] for place in places]


@each_cell
@with_initial
@each_through
def test_the_bound_is_the_formula_in_loops(cell: str, given: bool, through: str) -> None:
    made, trace, _ = case(cell, given, through)
    expected = np.array(bound_in_loops(made))
    assert_close(gradient_flow(trace).bound, expected[:, 0])
    assert_close(np.column_stack(all_bounds(trace)), expected)


def all_bounds(trace: RecurrentTrace) -> tuple[Floats, ...]:
    """The bound of every state."""
    steps, above = steps_of(trace.layer, trace.cache), np.zeros(trace.cache.packing.rows)
    if trace.from_above is not None:
        above = norms_of(trace.from_above) * steps.wider
    norms = tuple(map(norms_of, trace.d_states))
    return bounds(norms, steps.bounds(), above, trace.cache.packing, steps.least)


@each_cell
@each_kind
@each_through
@with_initial
def test_no_row_of_any_state_is_above_its_bound(
    cell: str, kind: str, through: str, given: bool, dtype: np.dtype[Any]
) -> None:
    for seed in range(5):
        layer = layer_of(cell, kind, dtype, units=7)
        made = Pass(layer, cell, given, through, seed, (9, 1, 12, 5, 12))
        trace, _ = made.back()
        for d, bound in zip(trace.d_states, all_bounds(trace), strict=True):
            norms = norms_of(d)
            assert (norms <= bound).all()
        flow = gradient_flow(trace)
        np.testing.assert_array_equal(flow.bound, all_bounds(trace)[0])
        last = flow.lags == 0
        np.testing.assert_array_equal(flow.hidden_grad[last], flow.bound[last])


@pytest.mark.parametrize("name", CELL_STARTS)
def test_the_bound_holds_over_long_sequences(name: str, dtype: np.dtype[Any]) -> None:
    layer = layer_at(CELL_STARTS[name], Random(0)).astype(dtype)
    flow = flow_on_random(layer, 60, 4, Random(1))
    assert (flow.hidden_grad <= flow.bound).all()
    assert_close(flow.hidden_grad[flow.lags == 0], np.ones(4), ROUNDING[dtype.name])


@each_gated
def test_a_bound_without_the_direct_part_is_broken(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace, _ = Pass(layer_of(cell, "carried"), cell, lengths=(30,)).back()
    assert not above_its_bound(trace)
    kind = CELLS[cell]
    right = formulas.FORMULAS[kind]

    def without(*arguments: Any) -> dict[str, Floats]:
        parts = right(*arguments)
        return parts | {"direct": 0 * parts["direct"]}

    monkeypatch.setitem(formulas.FORMULAS, kind, without)
    assert above_its_bound(trace)


@each_gated
def test_a_bound_without_the_weights_is_broken(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The direct part alone: what the cell does not pass by may grow."""
    trace, _ = Pass(layer_of(cell, "exploding", units=7), cell, lengths=(12, 12, 12)).back()
    assert not above_its_bound(trace)
    kind = CELLS[cell]
    right = formulas.FORMULAS[kind]
    monkeypatch.setitem(formulas.FORMULAS, kind, lambda *given: {"direct": right(*given)["direct"]})
    assert above_its_bound(trace)


def above_its_bound(trace: RecurrentTrace) -> bool:
    flow = gradient_flow(trace)
    return bool((flow.hidden_grad > flow.bound * (1 + 1e-12)).any())


def test_a_cell_without_a_formula_is_named() -> None:
    class Other(Recurrent):
        gates = ("hidden",)
        step, step_backward = Elman.step, Elman.step_backward

    other = Other(D, H)
    with pytest.raises(InputError, match="Jacobian of Other; there is one for Elman, GRU"):
        steps_of(other, None)  # type: ignore[arg-type]


def test_a_subclass_with_its_own_mathematics_has_no_formula_of_its_cell() -> None:
    class Own(LSTM):
        def step(self, *given: Any) -> Any:
            return super().step(*given)

    with pytest.raises(InputError, match="no formula for the Jacobian of Own"):
        gradient_flow(Pass(Own(D, H, dtype=np.float64, random=Random(3)), "lstm").back()[0])


def test_a_subclass_has_the_formula_of_its_cell() -> None:
    class Mine(LSTM):
        pass

    layer = Mine(D, H, dtype=np.float64, random=Random(3))
    flow = gradient_flow(Pass(layer, "lstm").back()[0])
    assert_close(flow.bound, gradient_flow(Pass(layer_of("lstm"), "lstm").back()[0]).bound)


@each_cell
@pytest.mark.parametrize("units", [1, 2, 3])
def test_rounding_never_carries_a_row_above_its_bound(
    cell: str, units: int, dtype: np.dtype[Any], backend: Backend
) -> None:
    """Small, saturated and exploding weights, for whose gradients there may be no normal number."""
    packing = Packing.of(np.array([30, 12, 1]), backend)
    for seed, scale, above in product(range(5), (0.1, 1.0, 3.0, 30.0), (False, True)):
        random = Random(seed, "rounding")
        layer = CELLS[cell](3, units, random=random, backend=backend, dtype=dtype)
        for value in layer.parameters.values():
            value *= scale

        def drawn(name: str, rows: int, columns: int, random: Random = random) -> Any:
            host = random.child(name).normal((rows, columns)).astype(dtype)
            return backend.asarray(host)

        (_, *lasts), cache = layer.forward(drawn("x", packing.rows, 3), packing=packing)
        d_hidden = drawn("d", packing.rows, units) if above else None
        traces: list[RecurrentTrace] = []
        d_lasts = [drawn(f"last {n}", 3, units) for n in range(len(lasts))]
        with np.errstate(over="ignore", invalid="ignore"):
            layer.backward((d_hidden, *d_lasts), cache, traces.append)
            flow = gradient_flow(traces[0])
        finite = np.isfinite(flow.hidden_grad)
        assert (flow.hidden_grad <= flow.bound)[finite].all()
