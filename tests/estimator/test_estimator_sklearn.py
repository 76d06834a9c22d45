"""The estimator in scikit-learn's hands."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from npnlp.estimator.estimator import SurnameClassifierEstimator
from tests.estimator.test_estimator import LABELS, NAMES, tiny

pytestmark = pytest.mark.peers

base = pytest.importorskip("sklearn.base", reason="scikit-learn is the other party here")
model_selection = pytest.importorskip("sklearn.model_selection", reason="as above")

ORDER = np.random.default_rng(0).permutation(60)
X = [NAMES[row] for row in ORDER]
Y = [LABELS[row] for row in ORDER]


def strip(names: Any) -> list[str]:
    return [name.strip("# ") for name in names]


def test_a_clone_is_unfitted_and_the_same() -> None:
    found = tiny(cell="gru", num_epochs=1).fit(X, Y)
    twin = base.clone(found)
    assert twin.get_params() == found.get_params()
    assert not hasattr(twin, "model_")
    assert base.is_classifier(found)
    assert not base.is_regressor(found)


def test_it_passes_cross_val_score() -> None:
    found = model_selection.cross_val_score(tiny(), X, Y, cv=3)
    assert found.shape == (3,)
    assert (found > 1 / 3 + 0.2).all(), "the majority class is a third"
    again = model_selection.cross_val_score(tiny(), pd.Series(X), pd.Series(Y), cv=3)
    assert np.array_equal(found, again)


def test_cross_val_score_in_two_processes_gives_the_same() -> None:
    alone = model_selection.cross_val_score(tiny(num_epochs=5), X, Y, cv=2)
    both = model_selection.cross_val_score(tiny(num_epochs=5), X, Y, cv=2, n_jobs=2)
    assert np.array_equal(alone, both)


def test_probabilities_serve_scorers() -> None:
    scores = model_selection.cross_validate(
        tiny(), X, Y, cv=3, scoring=["neg_log_loss", "roc_auc_ovr", "f1_macro"]
    )
    assert (scores["test_neg_log_loss"] > -np.log(3)).all()
    assert (scores["test_roc_auc_ovr"] > 0.8).all()
    held = model_selection.cross_val_predict(tiny(), X, Y, cv=3, method="predict_proba")
    assert held.shape == (60, 3)


def test_it_lives_in_a_pipeline() -> None:
    pipeline = pytest.importorskip("sklearn.pipeline")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    marked = [f"## {name} #" for name in X]
    steps = pipeline.Pipeline([
        ("strip", preprocessing.FunctionTransformer(strip)), ("names", tiny())
    ])  # fmt: skip
    assert model_selection.cross_val_score(steps, marked, Y, cv=3).mean() > 0.6
    steps.fit(marked, Y)
    plain = tiny().fit(X, Y)
    assert np.array_equal(steps.predict_proba(marked), plain.predict_proba(X))
    assert steps.score(marked, Y) == plain.score(X, Y)
    assert steps.classes_.tolist() == plain.classes_.tolist()
    assert base.clone(steps).set_params(names__cell="gru")["names"].cell == "gru"
    assert "SurnameClassifierEstimator" in repr(steps)
    assert "SurnameClassifierEstimator" in steps._repr_html_()


def test_a_grid_is_searched() -> None:
    sizes = np.array([1, 8])
    search = model_selection.GridSearchCV(
        tiny(), {"rnn_hidden_size": sizes}, cv=2, error_score="raise"
    ).fit(X, Y)
    assert search.best_params_["rnn_hidden_size"] in sizes
    assert search.best_score_ > 0.5
    assert search.predict(["Rorini"]).shape == (1,)
    assert search.classes_.tolist() == sorted(set(Y))


def test_a_calibrated_and_a_voting_classifier_take_it() -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    ensemble = pytest.importorskip("sklearn.ensemble")
    calibrated = calibration.CalibratedClassifierCV(tiny(num_epochs=8), cv=2).fit(X, np.array(Y))
    assert calibrated.predict_proba(X).sum(axis=1) == pytest.approx(1)
    members = [("a", tiny(num_epochs=8)), ("b", tiny(num_epochs=8, random_state=2))]
    assert ensemble.VotingClassifier(members, voting="soft").fit(X, Y).score(X, Y) > 0.5


def test_it_is_boosted() -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    column = np.array(X, dtype=object)[:, None]  # boosting asks for two axes
    boosted = ensemble.AdaBoostClassifier(tiny(num_epochs=12), n_estimators=3, random_state=0)
    boosted.fit(column, Y)
    assert len(boosted.estimators_) > 1
    assert boosted.score(column, Y) > 0.8


def test_weights_are_routed_and_equal_classes_cost_the_same() -> None:
    weights = np.random.default_rng(0).uniform(0.5, 2, 60)
    scores = model_selection.cross_validate(
        tiny(num_epochs=3), X, Y, cv=2, params={"sample_weight": weights}
    )
    assert np.isfinite(scores["test_score"]).all()
    class_weight = pytest.importorskip("sklearn.utils.class_weight")
    few = [row for row, label in enumerate(Y) if label != Y[0] or row % 3 == 0]
    names, labels = [X[row] for row in few], [Y[row] for row in few]
    theirs = class_weight.compute_sample_weight("balanced", labels)
    ours = tiny(class_weight="balanced", num_epochs=3).fit(names, labels)
    assert np.array_equal(
        ours.predict_proba(X),
        tiny(num_epochs=3).fit(names, labels, theirs).predict_proba(X),
    )


def test_it_is_drawn_in_a_notebook() -> None:
    for estimator in (tiny(), tiny(num_epochs=1).fit(X, Y)):
        drawn = estimator._repr_html_()
        assert "SurnameClassifierEstimator" in drawn
        assert "<style>" in drawn


def test_before_fitting_it_raises_scikit_learns_own_error() -> None:
    exceptions = pytest.importorskip("sklearn.exceptions")
    validation = pytest.importorskip("sklearn.utils.validation")
    with pytest.raises(exceptions.NotFittedError):
        tiny().predict(X)
    with pytest.raises(exceptions.NotFittedError):
        validation.check_is_fitted(tiny())
    validation.check_is_fitted(tiny(num_epochs=1).fit(X, Y))


#: Those of scikit-learn's checks that feed no numbers; the others fit matrices of floats.
CHECKS = (
    "check_no_attributes_set_in_init", "check_parameters_default_constructible",
    "check_get_params_invariance", "check_set_params", "check_estimator_cloneable",
    "check_estimator_repr", "check_do_not_raise_errors_in_init_or_set_params",
    "check_supervised_y_no_nan", "check_requires_y_none", "check_classifiers_regression_target",
    "check_estimator_tags_renamed", "check_valid_tag_types", "check_mixin_order",
    "check_estimators_unfitted",
)  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_scikit_learns_checks_that_apply(name: str) -> None:
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    if not hasattr(checks, name):
        pytest.skip(f"this scikit-learn has no {name}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(checks, name)("SurnameClassifierEstimator", SurnameClassifierEstimator())


def test_tags_say_what_it_takes() -> None:
    utils = pytest.importorskip("sklearn.utils")
    if not hasattr(utils, "get_tags"):
        pytest.skip("before scikit-learn 1.6 there are no tags")
    tags = utils.get_tags(tiny())
    assert tags.estimator_type == "classifier"
    assert tags.input_tags.string
    assert tags.input_tags.one_d_array
    assert not tags.input_tags.two_d_array
    assert tags.target_tags.required
    assert not tags.non_deterministic
    assert utils.get_tags(tiny(random_state=None)).non_deterministic
