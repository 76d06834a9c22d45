"""Gradient flow by gate, against nudges of an unrolled cell; and the cells' own starts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from npnlp.backend import Backend, Random, get_backend
from npnlp.gradients import gates as by_gate
from npnlp.gradients.flow import COLUMNS, gradient_flow, merge
from npnlp.gradients.gates import GATE_COLUMNS, GateFlow, gate_flow
from npnlp.lab.starts import CELL_STARTS, HIDDEN, flow_on_random, layer_at, trace_on_random
from npnlp.layers.recurrent.lstm import LSTM
from tests.support.passes import (
    H,
    Pass,
    case,
    each_cell,
    each_through,
    layer_of,
    slopes,
    with_initial,
)
from tests.support.reference import assert_close


@each_cell
@with_initial
@each_through
def test_by_gate_equals_the_nudges(cell: str, given: bool, through: str) -> None:
    made, trace, _ = case(cell, given, through)
    found, steps = gate_flow(trace), made.steps()
    names = list(steps[0].outputs)
    assert list(found.gates) == names
    expected = np.zeros((len(names), max(made.lengths), len(GATE_COLUMNS)))
    shares = np.zeros((len(names), max(made.lengths), H, H))
    for lag in range(max(made.lengths)):
        rows = [row for row, place in enumerate(made.places) if made.lag(*place) == lag]
        for g, gate in enumerate(names):
            norms = []
            for row in rows:
                t, b = made.places[row]
                norms.append(np.linalg.norm(made.unrolled(b).of_sum(t, gate)))
                shares[g, lag] += made.unrolled(b).share(t)[g * H : (g + 1) * H]
            expected[g, lag] = [
                lag,
                np.mean([steps[row].outputs[gate].real for row in rows]),
                np.mean([slopes(steps[row], gate) for row in rows]),
                np.linalg.norm(shares[g, lag]),
                np.mean(norms),
            ]
    for column in range(len(GATE_COLUMNS)):
        assert_close(found.table()[..., column], expected[..., column])


@each_cell
def test_the_shares_of_the_gates_are_those_of_the_whole(cell: str) -> None:
    _, trace, _ = case(cell, True, "both")
    flow = gradient_flow(trace)
    whole = flow.table()[:, COLUMNS.index("weight_hh_share")]
    gates = gate_flow(trace, flow).table()
    assert_close(np.sqrt((gates[..., 3] ** 2).sum(axis=0)), whole)
    np.testing.assert_array_equal(gates, gate_flow(trace).table())


def test_the_candidate_of_the_first_gru_was_multiplied_with_the_reset_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The planted mistake: ``h_{t-1}`` for all three gates does not give the gradient."""
    _, trace, grads = case("before", True, "both")
    size = H
    monkeypatch.setattr("npnlp.gradients.shares.GRUResetBefore", LSTM)
    wrong = gradient_flow(trace).shares.sum(axis=0)
    assert_close(wrong[: 2 * size], grads["weight_hh_l0"][: 2 * size])
    difference = np.abs(wrong - grads["weight_hh_l0"])[2 * size :]
    assert difference.max() > 0.1 * np.abs(grads["weight_hh_l0"]).max()


def test_rows_are_the_table_with_the_name_of_the_gate() -> None:
    _, trace, _ = case("lstm", False, "last")
    found = gate_flow(trace)
    rows = pd.DataFrame(found.rows())
    assert list(rows) == ["gate", *GATE_COLUMNS]
    assert list(rows["gate"].unique()) == ["input", "forget", "candidate", "output"]
    for g, gate in enumerate(found.gates):
        of_gate = rows[rows["gate"] == gate]
        assert list(of_gate["lag"]) == list(range(5))
        np.testing.assert_array_equal(of_gate[list(GATE_COLUMNS)], found.table()[g])


@each_cell
@each_through
def test_two_batches_merged_are_one(cell: str, through: str) -> None:
    whole = Pass(layer_of(cell, "large"), cell, True, through)
    flows, gates = [], []
    for rows in (slice(1, 2), slice(2, 4), slice(0, 1)):
        part = Pass(whole.layer, cell, True, through, lengths=whole.lengths[rows])
        longest = max(part.lengths)
        part.x, part.d_hidden = whole.x[:longest, rows], whole.d_hidden[:longest, rows]
        part.initial = [state[rows] for state in whole.initial]
        part.d_last = [state[rows] for state in whole.d_last]
        trace, _ = part.back()
        flows.append(gradient_flow(trace))
        gates.append(gate_flow(trace))
    trace, _ = whole.back()
    merged: GateFlow = by_gate.merge(gates)
    assert_close(merge(flows).table(), gradient_flow(trace).table())
    assert_close(merged.table(), gate_flow(trace).table())
    assert_close(merged.shares, gate_flow(trace).shares)


@each_cell
def test_every_backend_shows_the_same(cell: str, backend: Backend) -> None:
    seen = []
    for place in (get_backend("numpy"), backend):
        trace, _ = Pass(layer_of(cell, "large", backend=place), cell, True, "both").back()
        flow = gradient_flow(trace)
        seen.append((flow.table(), gate_flow(trace, flow).table()))
    for found, expected in zip(seen[1], seen[0], strict=True):
        assert_close(found, expected)


@each_cell
def test_looking_changes_nothing(cell: str) -> None:
    made, trace, grads = case(cell, True, "both")
    kept = [array.copy() for array in (*trace.d_states, trace.delta, *trace.cache.memory)]
    gate_flow(trace, gradient_flow(trace))
    after = (*trace.d_states, trace.delta, *trace.cache.memory)
    for array, before in zip(after, kept, strict=True):
        np.testing.assert_array_equal(array, before)
    for name, gradient in made.layer.grads.items():
        np.testing.assert_array_equal(gradient, grads[name])


@pytest.mark.parametrize("name", CELL_STARTS)
def test_the_starts_of_the_cells(name: str) -> None:
    start = CELL_STARTS[name]
    layer = layer_at(start, Random(1))
    assert layer.hidden_size == HIDDEN
    assert type(layer).__name__.lower() == start.cell
    if start.forget_bias is not None:
        assert isinstance(layer, LSTM)
        total = (layer.weight("bias_ih") + layer.weight("bias_hh"))[layer.rows_of("forget")]
        np.testing.assert_array_equal(total, start.forget_bias)
        table = gate_flow(trace_on_random(layer, 5, 2, Random(2))).table()
        assert table[1, 0, 1] > 0.65  # the forget gate, open at sigma(1) = 0.73 or so
    assert not any(grad.any() for grad in layer.grads.values())


def test_what_the_gates_carry_gets_further_back_than_through_tanh() -> None:
    left = {
        name: flow_on_random(layer_at(start, Random(1)), 50, 8, Random(2)).table()[-1, 1]
        for name, start in CELL_STARTS.items()
    }
    assert left["Elman"] < left["LSTM"] < left["LSTM, forget bias 1"]
    assert left["Elman"] < left["GRU"]
