"""The norm of the product of Jacobians against the matrices themselves, and its order on all rows.

what arrives of the gradient <= the norm of the product <= the chain rule's bound
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import Random
from npnlp.gradients import norms, steps
from npnlp.gradients.applied import taken_back
from npnlp.gradients.flow import COLUMNS, GradientFlow, gradient_flow
from npnlp.gradients.norms import chosen, largest_singular_values, norms_and_shares, products
from npnlp.gradients.steps import Steps, steps_of, sum_of
from npnlp.lab.starts import CELL_STARTS, STARTS, layer_at, trace_on_random
from npnlp.layers import Elman, Packing
from npnlp.layers.recurrent.cell import Cell
from npnlp.layers.recurrent.memory import RecurrentTrace
from tests.support import tables
from tests.support.passes import (
    CELLS,
    KINDS,
    LENGTHS,
    Pass,
    each_cell,
    each_kind,
    each_through,
    layer_of,
    with_initial,
)
from tests.support.reference import Floats, assert_close, draw

ALL, ENOUGH = 10**6, 10**4
ROUNDING = {"float64": 1e-12, "float32": 1e-5}


def steps_and_trace(made: Pass) -> tuple[Steps, RecurrentTrace]:
    trace, _ = made.back()
    return steps_of(trace.layer, trace.cache), trace


def jacobian_of(of_steps: Steps, row: int) -> Floats:
    return np.asarray(sum_of(of_steps.parts(row)))


def explicit(of_steps: Steps, packing: Packing, states: int) -> dict[int, Floats]:
    """``dh_T/dh_t`` of every packed row, multiplied out."""
    found, size = {}, of_steps.weights[0].shape[1]
    for place, length in enumerate(packing.longest_first):
        product = np.eye(states * size)
        for t in range(length - 1, -1, -1):
            row = packing.offsets[t] + place
            found[row] = product[:size, :size]
            product = product @ jacobian_of(of_steps, row)
    return found


@each_cell
@each_kind
def test_a_gradient_is_taken_back_by_the_matrix(cell: str, kind: str) -> None:
    of_steps, trace = steps_and_trace(Pass(layer_of(cell, kind), cell, given=True))
    rows = np.array([3, 0, 7])
    d = tuple(draw(s, 3, 2, trace.layer.hidden_size) for s in range(len(trace.d_states)))
    back = np.concatenate(taken_back(of_steps, rows, d), axis=-1)
    for place, row in enumerate(rows):
        beside = np.concatenate([part[place] for part in d], axis=-1)
        assert_close(back[place], beside @ jacobian_of(of_steps, int(row)))


@each_cell
def test_a_formula_of_ones_own_is_made_into_a_matrix(cell: str) -> None:
    known, trace = steps_and_trace(Pass(layer_of(cell), cell))
    unknown = Steps(
        lambda *parts: known.formula(*parts), known.slopes, known.carried, known.weights,
        known.rounding,
    )  # fmt: skip
    rows = np.array([2, 5])
    d = tuple(draw(s, 2, 4, trace.layer.hidden_size) for s in range(len(trace.d_states)))
    for ours, theirs in zip(taken_back(unknown, rows, d), taken_back(known, rows, d), strict=True):
        assert_close(ours, theirs)


@each_cell
@with_initial
def test_products_are_those_of_the_matrices(cell: str, given: bool) -> None:
    of_steps, trace = steps_and_trace(Pass(layer_of(cell, "large"), cell, given))
    packing, states = trace.cache.packing, len(trace.d_states)
    expected, seen = explicit(of_steps, packing, states), set[int]()
    for rows, p in products(of_steps, packing, np.arange(len(LENGTHS)), states):
        for row, product in zip(rows.tolist(), p, strict=True):
            assert_close(product, expected[row])
            seen.add(row)
    assert seen == set(np.flatnonzero(packing.lags).tolist())


@each_cell
@each_kind
@each_through
def test_norms_and_shares_are_those_of_the_matrices(cell: str, kind: str, through: str) -> None:
    of_steps, trace = steps_and_trace(Pass(layer_of(cell, kind), cell, through=through))
    packing, states = trace.cache.packing, len(trace.d_states)
    found, shares = norms_and_shares(of_steps, packing, trace.d_states, ALL, ENOUGH)
    lags, places = packing.lags, packing.places
    for row, product in explicit(of_steps, packing, states).items():
        (end,) = np.flatnonzero((places == places[row]) & (lags == 0))
        d, top = trace.d_hidden[row], trace.d_hidden[end]
        size, most = np.linalg.norm(top), np.linalg.norm(product, 2)
        rest = np.linalg.norm(d - product.T @ top)
        assert_close(found[row], size * most + rest, 1e-10)
        u, s, _ = np.linalg.svd(product)
        assert_close(shares[row], ((s / s[0]) ** 2 * (u.T @ top) ** 2).sum() / size**2, 1e-9)


@pytest.mark.parametrize("size", [1, 2, 5, 64])
@pytest.mark.parametrize("exponent", [-30, 0, 15])
def test_what_is_sought_is_found_from_below(size: int, exponent: int, dtype: np.dtype[Any]) -> None:
    p = (draw(size, 6, size, size) * 10.0**exponent).astype(dtype)
    expected = np.linalg.norm(p.astype(np.float64), 2, axis=(1, 2))
    found = largest_singular_values(p, draw(1, 6, size).astype(dtype))
    assert (found <= expected * (1 + ROUNDING[dtype.name])).all()
    assert (found >= 0.97 * expected).all()


@each_cell
def test_few_turns_find_the_norm_of_every_lag(cell: str) -> None:
    """To 4 % for few steps, and to half a percent further back."""
    layer = CELLS[cell](8, 64, dtype=np.float64, random=Random(0))
    trace = trace_on_random(layer, 12, 4, Random(1))
    of_steps, packing = steps_of(layer, trace.cache), trace.cache.packing
    found, _ = norms_and_shares(of_steps, packing, trace.d_states, ALL)
    exact, _ = norms_and_shares(of_steps, packing, trace.d_states, ALL, ENOUGH)
    ratio = found / exact
    assert ratio.max() <= 1 + 1e-12
    assert ratio.min() >= 0.96
    assert ratio[packing.lags > 3].min() >= 0.995


@each_cell
@each_kind
@each_through
def test_the_norm_lies_between_the_gradient_and_the_bound(
    cell: str, kind: str, through: str, dtype: np.dtype[Any]
) -> None:
    slack = 1 + ROUNDING[dtype.name]
    for seed in range(3):
        layer = layer_of(cell, kind, dtype, units=7)
        made = Pass(layer, cell, False, through, seed, (9, 1, 12, 5, 12))
        of_steps, trace = steps_and_trace(made)
        flow = gradient_flow(trace, ALL)
        raw, _ = norms_and_shares(of_steps, trace.cache.packing, trace.d_states, ALL)
        assert (flow.hidden_grad <= raw * slack).all()
        assert (raw <= flow.bound * slack).all()
        assert (flow.hidden_grad <= flow.product_norm).all()
        assert (flow.product_norm <= flow.bound).all()
        assert ((flow.surviving_share >= 0) & (flow.surviving_share <= slack)).all()


@pytest.mark.parametrize("name", [*STARTS, *CELL_STARTS])
def test_it_does_over_long_sequences(name: str, dtype: np.dtype[Any]) -> None:
    start = {**STARTS, **CELL_STARTS}[name]
    trace = trace_on_random(layer_at(start, Random(0)).astype(dtype), 60, 4, Random(1))
    raw, _ = norms_and_shares(
        steps_of(trace.layer, trace.cache), trace.cache.packing, trace.d_states, ALL
    )
    flow, slack = gradient_flow(trace), 1 + ROUNDING[dtype.name]
    assert (flow.hidden_grad <= raw * slack).all()
    assert (raw <= flow.bound * slack).all()


def test_a_product_without_its_slopes_is_above_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    trace, _ = Pass(layer_of("elman", "large"), "elman", lengths=(12,)).back()
    of_steps = steps_of(trace.layer, trace.cache)
    packing, bound = trace.cache.packing, gradient_flow(trace).bound
    monkeypatch.setattr(norms, "taken_back", lambda s, rows, d: (d[0] @ s.weights[0],))
    raw, _ = norms_and_shares(of_steps, packing, trace.d_states)
    assert (raw > bound * 1.1).any()


def test_a_gradient_in_the_direction_that_survives_best_survives_whole() -> None:
    layer = layer_of("elman", "large", units=6)
    packing = Packing.of(np.array([5]), layer.backend)
    _, cache = layer.forward(draw(0, 5, 2), packing=packing)
    of_steps = steps_of(layer, cache)
    u, s, _ = np.linalg.svd(explicit(of_steps, packing, 1)[0])
    for direction in (0, 1):
        traces: list[RecurrentTrace] = []
        layer.backward((None, u[:, direction][None]), cache, traces.append)
        flow = gradient_flow(traces[0])
        assert_close(flow.surviving_share[0], (s[direction] / s[0]) ** 2, 1e-9)
        assert_close(flow.product_norm[0], s[0], 1e-9)


def test_where_nothing_arrives_the_norm_still_tells_what_could() -> None:
    """A ReLU that is off for the unit whose gradient is given, and on for the others."""
    layer = Elman(2, 4, nonlinearity="relu", dtype=np.float64, random=Random(0))
    for value in layer.parameters.values():
        value[...] = 0
    layer.weight("weight_hh")[...] = np.diag([1.0, 2.0, 3.0, 0.5])
    layer.weight("bias_ih")[...] = [-1e6, 1, 1, 1]
    packing = Packing.of(np.array([4]), layer.backend)
    _, cache = layer.forward(np.zeros((4, 2)), packing=packing)
    traces: list[RecurrentTrace] = []
    layer.backward((None, np.eye(4)[:1]), cache, traces.append)
    table = gradient_flow(traces[0]).table()
    assert list(table[1:, COLUMNS.index("hidden_grad_mean")]) == [0.0, 0.0, 0.0]
    assert_close(table[:, COLUMNS.index("product_norm")], [1, 3, 9, 27], 1e-9)
    assert list(table[1:, COLUMNS.index("surviving_share")]) == [0.0, 0.0, 0.0]


def test_a_product_that_is_no_number_has_an_infinite_norm() -> None:
    p = draw(0, 4, 5, 5)
    p[1, 2, 2], p[2, 0, 1] = np.inf, np.nan
    with np.errstate(all="ignore"):
        found = largest_singular_values(p, draw(1, 4, 5))
    assert list(np.isinf(found)) == [False, True, True, False]
    assert_close(found[[0, 3]], np.linalg.norm(p[[0, 3]], 2, axis=(1, 2)), 1e-9)


@pytest.mark.parametrize(("size", "count"), [(16, 3), (64, 3), (90, 2), (128, 1), (300, 1)])
def test_few_sequences_are_chosen_with_the_longest(size: int, count: int) -> None:
    d_last = draw(0, 64, size)
    places = chosen(d_last)
    assert len(places) == count
    assert places[0] == 0
    assert list(chosen(d_last, ALL)) == list(range(64))
    d_last[:3] = d_last[5:] = 0
    assert set(chosen(d_last)) <= {3, 4}
    assert chosen(d_last)[0] == 3
    assert len(chosen(np.zeros((64, size)))) == count


def table_of(flow: GradientFlow) -> dict[str, Floats]:
    return dict(zip(COLUMNS, flow.table().T, strict=True))


@settings(max_examples=25)
@given(
    st.sampled_from(list(CELLS)), st.sampled_from(KINDS), st.sampled_from(["last", "all", "both"]),
    st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(1, 9), st.integers(0, 99),
)  # fmt: skip
def test_the_table_keeps_the_order_however_few_are_chosen(
    cell: str, kind: str, through: str, lengths: list[int], few: int, seed: int
) -> None:
    made = Pass(layer_of(cell, kind), cell, False, through, seed, tuple(lengths))
    trace, _ = made.back()
    found, whole = table_of(gradient_flow(trace, few)), gradient_flow(trace, ALL)
    assert (found["hidden_grad_mean"] <= found["product_norm"]).all()
    assert (found["product_norm"] <= found["bound"]).all()
    means = np.bincount(whole.lags, whole.product_norm) / np.bincount(whole.lags)
    assert_close(table_of(whole)["product_norm"], means)


@pytest.mark.parametrize(
    "shape",
    [
        {"cell": "elman", "nonlinearity": "relu"},
        {"cell": "gru", "pooling": "mean"},
        {"cell": "gru", "reset": "before", "bidirectional": True},
        {"cell": "lstm", "num_layers": 2, "pooling": "attention"},
    ],
    ids=str,
)
def test_every_recorded_lag_of_a_run_keeps_the_order(tmp_path: Any, shape: dict[str, Any]) -> None:
    run = tables.make_run(tmp_path / "run", num_epochs=3, shape=shape)
    for _ in range(3):
        run.trainer.run_epoch()
    found = dict(zip(("epoch", "layer", *COLUMNS), run.trainer.flow.T, strict=True))
    assert len(set(found["epoch"])) == 3
    assert len(set(found["layer"])) == len(run.trainer.flow_layers)
    assert (found["hidden_grad_mean"] <= found["product_norm"]).all()
    assert (found["product_norm"] <= found["bound"]).all()
    assert ((found["surviving_share"] >= 0) & (found["surviving_share"] <= 1 + 1e-5)).all()
    assert (found["mean_field_grad"] > 0).all()


def test_a_cell_with_a_formula_of_its_own_has_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(Elman):
        def step(self, *given: Any) -> Any:
            return super().step(*given)

    own: type[Cell] = Own
    monkeypatch.setitem(steps.FORMULAS, own, lambda *parts: steps.elman(*parts))
    monkeypatch.setitem(steps.SLOPES, own, steps.slopes_of_elman)
    found = []
    for kind in (Own, Elman):
        layer = kind(2, 3, dtype=np.float64, random=Random(3))
        found.append(gradient_flow(Pass(layer, "elman").back()[0], ALL).product_norm)
    assert_close(found[0], found[1])
