"""Starts, training from them, clipping, and the sentences on what was found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from npnlp.backend import Random
from npnlp.lab import findings
from npnlp.lab.starts import (
    HIDDEN,
    STARTS,
    factor_rows,
    flow_on_random,
    jacobians_on_random,
    layer_at,
)
from npnlp.lab.vanishing import before_and_after, clipping_run
from npnlp.layers import Elman
from npnlp.training.config import TrainingConfig
from tests.support.reference import assert_close
from tests.support.tables import small_dataset

SIGMA = {
    "small, tanh": 0.5,
    "unit, tanh": 1.0,
    "large, tanh": 2.0,
    "orthogonal, tanh": 1.0,
    "identity, ReLU": 1.0,
    "exploding, ReLU": 3.5,
}


@pytest.mark.parametrize("name", SIGMA)
def test_a_start_has_the_largest_singular_value_it_says(name: str) -> None:
    layer = layer_at(STARTS[name], Random(1))
    assert_close(np.linalg.norm(layer.parameters["weight_hh_l0"], 2), SIGMA[name])
    assert isinstance(layer, Elman)
    assert layer.nonlinearity == STARTS[name].nonlinearity


def left(name: str, length: int = 50) -> float:
    flow = flow_on_random(layer_at(STARTS[name], Random(1)), length, 8, Random(2))
    return float(flow.table()[-1, 1])


def test_small_weights_vanish_before_a_rotation_and_large_ones_with_relu_explode() -> None:
    assert left("small, tanh") < 0.5**49
    assert left("small, tanh") < left("unit, tanh") < left("orthogonal, tanh") < 1
    assert 0.1 < left("identity, ReLU") <= 1
    assert left("exploding, ReLU") > 100


def test_the_flow_on_random_sequences_leaves_no_gradient_behind() -> None:
    layer = layer_at(STARTS["unit, tanh"], Random(1))
    flow_on_random(layer, 5, 2, Random(2))
    assert not any(grad.any() for grad in layer.grads.values())


def test_the_factors_by_lag_and_by_rank() -> None:
    seen = jacobians_on_random(layer_at(STARTS["large, tanh"], Random(1)), 7, Random(2))
    rows = pd.DataFrame(factor_rows(seen), columns=["factor", "place", "value"])
    by_lag = rows[rows["factor"] == "mean phi'"]
    assert list(by_lag["place"]) == list(range(7))
    assert_close(by_lag["value"].iloc[0], seen.derivatives[-1].mean())  # lag 0 is the last step
    sigma = rows[rows["factor"] == "singular value of W_hh"]
    assert list(sigma["place"]) == list(range(1, HIDDEN + 1))
    assert_close(sigma["value"].iloc[0], 2.0)


def test_clipping_keeps_an_exploding_run_finite() -> None:
    start = STARTS["exploding, ReLU"]
    with np.errstate(all="ignore"):
        on = clipping_run(start, 30, 8, 1.0, Random(0, "clip"))
        off = clipping_run(start, 30, 8, None, Random(0, "clip"))
    assert len(on) == 8
    assert len(off) < 8
    assert on[0]["norm"] == off[0]["norm"] == off[0]["norm_clipped"] > 1000
    assert all(0.99 < row["norm_clipped"] <= 1 for row in on)


def test_training_starts_where_it_is_told(tmp_path: Path) -> None:
    config = TrainingConfig(num_epochs=2, batch_size=16, seed=3)
    dataset = small_dataset(tmp_path)
    before, after, accuracy, trainer = before_and_after(dataset, STARTS["large, tanh"], config)
    assert_close(before.sigma_max, 2.0, 1e-6)
    assert after.sigma_max != before.sigma_max
    assert 0 <= accuracy <= 1
    assert len(trainer.progress.history) == 2
    for name, value in trainer.best.items():
        np.testing.assert_array_equal(trainer.model.parameters[name], value)


def table(left_at_the_end: float) -> pd.DataFrame:
    return pd.DataFrame({
        "start": "small, tanh", "when": ["at first"] * 3 + ["trained"] * 3, "epoch": [0] * 3
        + [4] * 3, "lag": [0, 1, 2] * 2, "hidden_grad_mean": [2.0, 1.0, 0.5, 2.0, 1.0,
        2 * left_at_the_end], "weight_hh_share": [4.0, 2.0, 1.0] * 2,
    })  # fmt: skip


def test_the_sentences_say_what_the_tables_say() -> None:
    found = findings.starts(table(0.125)[3:])
    assert found == "2 steps back, of the gradient is left 1.2e-01 for small, tanh."
    found = findings.surnames(table(0.1))
    assert found.startswith("2 characters back")
    assert found.endswith("small, tanh 2.5e-01, then 1.0e-01.")
    found = findings.epochs(table(0.1))
    assert "2.5e-01 of the gradient is left in epoch 1 and 1.0e-01 in epoch 5" in found
    assert found.endswith("2.5e-01 of that from lag 0.")


def test_the_sentence_on_clipping_says_where_it_ends_without() -> None:
    rows = [("on", 50.0, 1.0), ("on", 20.0, 1.0), ("off", 50.0, 50.0)]
    frame = pd.DataFrame(rows, columns=["clipping", "norm", "norm_clipped"])
    assert findings.clipping(frame) == (
        "Gradients of norm 2.0e+01 to 5.0e+01 are cut to 1.00 at most, and all 2 steps are finite; "
        "without clipping step 2 is not."
    )
    assert findings.clipping(pd.concat([frame, frame[2:]])).endswith("they all are, too.")


def test_the_sentences_on_the_jacobian() -> None:
    products = pd.DataFrame({"start": ["a", "a", "b", "b"], "lag": [0, 3, 0, 3],
                             "largest": [1, 0.5, 1, 0.25], "bound": [1, 8, 1, 1]})  # fmt: skip
    found = findings.jacobians(products)
    assert "Over 3 steps the largest singular value is 5.0e-01 for a; 2.5e-01 for b" in found
    assert found.endswith("furthest from it for a: 8.0e+00.")
    names = ["max phi'", "mean phi'", "mean phi'", *["singular value of W_hh"] * 2]
    rows = pd.DataFrame({"start": "a", "factor": names, "place": [0, 0, 1, 1, 2],
                         "value": [0.999, 0.5, 0.7, 2.0, 1.0]})  # fmt: skip
    found = findings.factors(rows)
    assert "never below 0.99" in found
    assert "from 2.0 (a) to 2.0 (a); the mean phi' goes from 0.60 (a) to 0.60 (a)" in found


KEPT = Path(__file__).resolve().parents[2] / "docs/results"


@pytest.mark.parametrize(
    ("name", "column", "allowed"),
    [
        ("vanishing_starts", "hidden_grad_mean", 1e-12),
        ("vanishing_jacobians", "largest", 1e-12),
        ("vanishing_surnames", "hidden_grad_mean", 1e-5),
        ("vanishing_epochs", "hidden_grad_mean", 1e-5),
    ],
)
def test_no_kept_result_is_above_its_bound(name: str, column: str, allowed: float) -> None:
    kept = pd.read_csv(KEPT / f"{name}.csv")
    assert len(kept) > 100
    assert (kept[column] <= kept["bound"] * (1 + allowed)).all()
