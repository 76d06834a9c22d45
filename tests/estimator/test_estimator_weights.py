"""Weights of rows and of classes: what they stand for, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from npnlp import InputError
from npnlp.classifier.building import make_criterion
from npnlp.classifier.evaluation import evaluate
from npnlp.errors import DivergenceError
from npnlp.text import SplitArrays
from npnlp.text.repeats import merged
from tests.estimator.test_estimator import LABELS, NAMES, tiny

CLASSES, TARGETS = np.unique(LABELS, return_inverse=True)
DRAWN = np.random.default_rng(0).uniform(0.2, 3, 60)
#: Where the classes are of unequal size.
SOME = np.flatnonzero((TARGETS != 0) | (np.arange(60) % 3 == 0))


def found(weights: Any = None, rows: Any = range(60), **given: Any) -> NDArray[Any]:
    """Probabilities; a batch holds all rows, so that its weighted mean is that of the split."""
    settings = {"dropout": 0.0, "validation_fraction": 0, "batch_size": 200, "num_epochs": 6}
    names, labels = [NAMES[row] for row in rows], [LABELS[row] for row in rows]
    return tiny(**{**settings, **given}).fit(names, labels, weights).predict_proba(NAMES)


@pytest.mark.parametrize("cell", ["elman", "lstm"])
def test_a_weight_is_a_number_of_rows(cell: str) -> None:
    times = np.random.default_rng(1).integers(1, 4, 60)
    repeated = found(rows=np.repeat(np.arange(60), times), cell=cell)
    np.testing.assert_allclose(found(times, cell=cell), repeated, atol=2e-5)
    assert np.abs(repeated - found(cell=cell)).max() > 1e-3


def test_a_row_of_weight_0_is_not_there() -> None:
    weights = np.where(np.isin(np.arange(60), SOME), 2.5, 0)
    np.testing.assert_array_equal(found(weights), found(rows=SOME))


def test_weights_that_are_all_the_same_are_none() -> None:
    np.testing.assert_array_equal(found(np.full(60, 0.3)), found())
    np.testing.assert_array_equal(found(pd.Series(DRAWN)), found(DRAWN.tolist()))


def test_weights_of_classes_are_weights_of_their_rows() -> None:
    of_classes = {CLASSES[0]: 3, CLASSES[2]: np.float32(0.5)}
    of_rows = np.array([3.0, 1.0, 0.5])[TARGETS]
    np.testing.assert_array_equal(found(class_weight=of_classes), found(of_rows))
    both = found(DRAWN, class_weight=of_classes)
    np.testing.assert_array_equal(both, found(DRAWN * of_rows))
    assert not np.array_equal(both, found(DRAWN))


def test_balanced_classes_weigh_the_same() -> None:
    counts = np.bincount(TARGETS[SOME])
    assert len(set(counts.tolist())) > 1
    balanced = {label: len(SOME) / (3 * n) for label, n in zip(CLASSES, counts, strict=True)}
    one, other = found(rows=SOME, class_weight="balanced"), found(rows=SOME, class_weight=balanced)
    np.testing.assert_array_equal(one, other)
    assert one[:, 0].mean() > found(rows=SOME)[:, 0].mean(), "the rare class gains"


def test_a_recipe_takes_weights_and_merging_adds_them_up() -> None:
    given = {"recipe": "wide", "num_epochs": 2}
    assert not np.array_equal(found(DRAWN, **given), found(**given))
    assert not np.array_equal(found(class_weight={"Italian": 9}, **given), found(**given))
    split = SplitArrays(
        np.array([1, 2, 3, 2, 3]), np.array([0, 1, 3]), np.array([1, 2, 2]), np.array([0, 1, 0]),
        weights=np.array([0.5, 1.0, 1.5]),
    )  # fmt: skip
    both = merged(split, 2)
    assert both.shares is not None
    assert both.weights is not None
    np.testing.assert_allclose(both.shares, [[1.0, 0.0], [0.6, 0.4]])
    np.testing.assert_allclose(both.weights, np.array([0.5, 2.5]) / 1.5)


def test_held_out_rows_are_weighed_too() -> None:
    made = tiny(num_epochs=1).fit(NAMES, LABELS)
    tokens, lengths = made.vectorizer_.vectorize_many(NAMES)
    split = SplitArrays(tokens, lengths.cumsum() - lengths, lengths, TARGETS, weights=DRAWN)
    losses = -made.predict_log_proba(NAMES)[np.arange(60), TARGETS]
    result = evaluate(made.model_, split, make_criterion(made.model_))
    assert result.loss == pytest.approx(np.average(losses, weights=DRAWN), rel=1e-5)


def test_a_score_is_weighed() -> None:
    made = tiny(num_epochs=2).fit(NAMES, LABELS)
    right = made.predict(NAMES) == np.array(LABELS)
    assert made.score(NAMES, LABELS, DRAWN) == pytest.approx(np.average(right, weights=DRAWN))
    assert made.score(NAMES, LABELS, DRAWN) != made.score(NAMES, LABELS)


@pytest.mark.parametrize(("weights", "says"), [
    (np.ones(59), "59 rows, but X has 60"), (np.ones((60, 2)), "shape"), (1.0, "shape"),
    (np.where(np.arange(60) == 7, -1, 1), "row 7: -1.0"), ([np.nan] * 60, "row 0: nan"),
    (np.where(np.arange(60) == 9, np.inf, 1), "row 9: inf"), (["a"] * 60, "sample_weight"),
    (np.zeros(60), "0 in all rows"), (NAMES, "sample_weight"), ("many", "sample_weight"),
])  # fmt: skip
def test_what_is_no_weight_is_refused(weights: Any, says: str) -> None:
    made = tiny(num_epochs=1).fit(NAMES, LABELS)
    for ask in (tiny().fit, made.score):
        with pytest.raises(InputError, match=says) as error:
            ask(NAMES, LABELS, weights)
        assert "sample_weight" in str(error.value)


def test_no_row_may_be_left() -> None:
    nothing = dict.fromkeys(CLASSES, 0)
    with pytest.raises(InputError, match="no row a weight above 0"):
        tiny(class_weight=nothing).fit(NAMES, LABELS)


def test_a_step_that_is_not_finite_is_looked_into_with_its_weights() -> None:
    with pytest.raises(DivergenceError) as raised:
        tiny(learning_rate=1e30, num_epochs=3).fit(NAMES, LABELS, DRAWN)
    replay = raised.value.replay
    assert replay.row_weights is not None
    assert replay.log_prior is not None
    assert raised.value.finding is not None
