"""The way back of each cure against its definition, and the sentences that answer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random, get_backend
from npnlp.errors import InputError
from npnlp.lab.cures import (
    answer,
    cures,
    gradient_by_lag,
    look,
    singular_values,
    state_jacobians,
)
from npnlp.lab.tasks import TASKS, MiddleToken
from npnlp.lab.trial import Lab, LabConfig
from npnlp.lab.variants import VARIANTS
from npnlp.layers import CELLS, Packing
from npnlp.layers.recurrent.recurrent import Recurrent
from tests.support.reference import draw

NUMPY = get_backend("numpy")
CONFIG = LabConfig(budget=20, batch_size=6, hidden_size=8, check_every=10, check_size=12)


def layer_of(cell: str) -> Recurrent:
    return CELLS[cell](3, 5, dtype=np.float64, random=Random(2))


def last_state(layer: Recurrent, states: list[Any], rest: Any) -> Any:
    """``h_T`` from the states before the steps of ``rest``."""
    packing = Packing.of(np.array([len(rest)]), NUMPY)
    (_, last, *_), _ = layer.forward(rest, *(state[None] for state in states), packing=packing)
    return last[0]


@pytest.mark.parametrize("cell", list(CELLS))
def test_the_jacobians_are_those_of_central_differences(cell: str) -> None:
    layer, x, h = layer_of(cell), draw(1, 7, 3), 1e-6
    starts = [np.zeros(5) for _ in layer.states]
    found = list(state_jacobians(layer, x))
    assert len(found) == 7
    packing = Packing.of(np.array([7]), NUMPY)
    (_, *_), cache = layer.forward(x, *(s[None] for s in starts), packing=packing)
    for lag in range(1, 7):
        states = [state[6 - lag] for state in cache.states]
        columns = []
        for place, state in enumerate(states):
            for unit in range(len(state)):
                ends = []
                for sign in (1, -1):
                    moved = [s.copy() for s in states]
                    moved[place][unit] += sign * h
                    ends.append(last_state(layer, moved, x[7 - lag :]))
                columns.append((ends[0] - ends[1]) / (2 * h))
        np.testing.assert_allclose(found[lag], np.array(columns).T, rtol=1e-6, atol=1e-9)
    expected = np.eye(5)
    np.testing.assert_array_equal(found[0][:, :5], expected)
    values = singular_values(layer, x)
    assert values.shape == (7, 5)
    np.testing.assert_allclose(values[3], np.linalg.svd(found[3], compute_uv=False))


def test_looking_changes_no_gradient_of_the_layer() -> None:
    layer = layer_of("lstm")
    list(state_jacobians(layer, draw(1, 7, 3)))
    assert not any(grad.any() for grad in layer.grads.values())


@pytest.mark.parametrize("variant", ["tanh", "lstm", "gru", "bidirectional"])
def test_the_gradient_by_lag_begins_with_that_of_the_readout(variant: str) -> None:
    lab = Lab(TASKS["adding"], VARIANTS[variant], 12, 0, CONFIG, NUMPY)
    reached, direct = gradient_by_lag(lab, batches=1)
    assert reached.shape == direct.shape == (12,)
    assert not direct.any()
    x, targets = lab.batch(lab.random.child("flow").at(0))
    y, _ = lab.model.forward(x, packing=lab.packing)
    d_y = 2 * (y - targets) / y.size
    d_last = d_y @ lab.model.parameters["out.weight"][:, :8]
    assert reached[0] == pytest.approx(np.linalg.norm(d_last, axis=1).mean(), rel=1e-5)


def test_the_gradient_by_lag_is_that_of_the_jacobians() -> None:
    """For one sequence: ``dL/ds_t = (dh_T/ds_t)^T dL/dh_T``, both states of the LSTM together."""
    config = LabConfig(batch_size=1, hidden_size=8)
    lab = Lab(TASKS["adding"], VARIANTS["lstm"], 12, 0, config, NUMPY)
    reached, _ = gradient_by_lag(lab, batches=1)
    x, targets = lab.batch(lab.random.child("flow").at(0))
    y, _ = lab.model.forward(x, packing=lab.packing)
    d_last = (2 * (y - targets) / y.size @ lab.model.parameters["out.weight"])[0]
    (layer,) = lab.model.encoder.cells
    for lag, jacobian in enumerate(state_jacobians(layer, x)):
        assert reached[lag] == pytest.approx(np.linalg.norm(d_last @ jacobian), rel=1e-3)


def test_attention_reaches_every_step_directly() -> None:
    lab = Lab(TASKS["adding"], VARIANTS["attention"], 30, 0, CONFIG, NUMPY)
    _, direct = gradient_by_lag(lab)
    assert direct.min() > 0.3 * direct.max() > 0
    plain, _ = gradient_by_lag(Lab(TASKS["adding"], VARIANTS["tanh"], 30, 0, CONFIG, NUMPY))
    assert plain[-1] < 1e-3 * plain[0]


def test_a_transformer_has_no_steps_to_look_at() -> None:
    lab = Lab(TASKS["adding"], VARIANTS["transformer"], 10, 0, CONFIG, NUMPY)
    with pytest.raises(InputError, match="no recurrent layer"):
        gradient_by_lag(lab)


def test_a_gate_carries_the_gradient_further_than_tanh() -> None:
    """Before any training: half of a long sequence back."""
    left = {}
    for variant in ("tanh", "gru-chrono", "lstm-chrono"):
        lab = Lab(TASKS["adding"], VARIANTS[variant], 60, 0, LabConfig(hidden_size=16), NUMPY)
        left[variant] = look(lab, variant, "at first")[30]["relative"]
    assert left["tanh"] < 1e-5
    assert min(left["gru-chrono"], left["lstm-chrono"]) > 1e-2


def test_cures_have_a_row_a_lag_before_and_after() -> None:
    done: list[str] = []
    rows = cures("adding", 9, 0, ["tanh", "lstm"], CONFIG, NUMPY, done.append)
    assert done == ["tanh", "lstm"]
    assert [(row["recipe"], row["when"], row["lag"]) for row in rows] == [
        (variant, when, lag)
        for variant in ("tanh", "lstm")
        for when in ("at first", "trained")
        for lag in range(9)
    ]
    for row in rows:
        assert row["median"] <= row["largest"]
        assert all(math.isfinite(row[name]) for name in ("gradient", "relative", "direct"))
        assert row["lag"] or (row["relative"] == 1 and row["largest"] == pytest.approx(1))
    first, trained = rows[8], rows[17]
    assert first["gradient"] != trained["gradient"]


@pytest.mark.parametrize("length", [1, 2, 3, 10, 11])
def test_the_middle_token_stands_in_the_middle(length: int) -> None:
    x, targets = MiddleToken().batch(length, 50, Random(0))
    symbols = x.argmax(axis=2)
    np.testing.assert_array_equal(symbols[length // 2], targets)
    assert targets.max() < 8
    assert (np.delete(symbols, length // 2, axis=0) >= 8).all()


def row(task: str, variant: str, horizon: int, largest: int) -> dict[str, Any]:
    return {"task": task, "recipe": variant, "horizon": horizon, "largest": largest}


def test_the_answer_names_every_horizon() -> None:
    table = [
        row("first_token", "tanh", 20, 50),
        row("first_token", "gru", 500, 500),
        row("first_token", "lstm", 100, 200),
        row("adding", "gru", 200, 200),
        row("copy", "tanh", 0, 10),
    ]
    assert answer(table) == (
        "On first token tanh remembers 20 steps; gru to at least 500, lstm to 100. "
        "On copy tanh remembers 0 steps."
    )


def test_reading_backwards_brings_the_first_step_near_and_not_the_middle() -> None:
    """What the loss feels of each input, before any training."""
    config = LabConfig(batch_size=4, hidden_size=16)
    lab = Lab(TASKS["first_token"], VARIANTS["bidirectional"], 61, 0, config, NUMPY)
    x, targets = lab.batch(lab.random.child("train").at(0))
    y, cache = lab.model.forward(x, packing=lab.packing)
    _, errors = lab.criterion.forward(y, targets)
    d_x = lab.model.backward(lab.criterion.backward(1.0, errors), cache)
    felt = np.linalg.norm(d_x.reshape(61, -1), axis=1)
    assert 0.1 < felt[0] / felt[-1] < 10
    assert felt[30] < 1e-5 * min(felt[0], felt[-1])
