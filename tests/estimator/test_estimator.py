"""The estimator by itself: what it learns, keeps, refuses and gives on."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from npnlp import Classifier, InputError
from npnlp.backend import Random
from npnlp.estimator.estimator import NotFittedError, SurnameClassifierEstimator
from npnlp.estimator.fit import held_out
from npnlp.models import ClassifierConfig
from npnlp.training.config import TrainingConfig
from npnlp.training.recipes import RECIPES
from tests.support.tables import environment, small_rows

NAMES = [name for _, _, name in small_rows()]
LABELS = [label for label, _, _ in small_rows()]
TINY: dict[str, Any] = {
    "embedding_size": 6, "rnn_hidden_size": 8, "num_epochs": 25, "learning_rate": 0.02,
    "batch_size": 16, "dropout": 0.1, "validation_fraction": 0.2,
}  # fmt: skip


def tiny(**params: Any) -> SurnameClassifierEstimator:
    return SurnameClassifierEstimator(**{**TINY, **params})


@pytest.fixture(scope="module")
def fitted() -> SurnameClassifierEstimator:
    return tiny().fit(NAMES, LABELS)


def test_it_learns(fitted: SurnameClassifierEstimator) -> None:
    assert fitted.score(NAMES, LABELS) > 0.9
    assert fitted.predict(["Rorini", "Vorenko", "Nasaki"]).tolist() == [
        "Italian", "Russian", "Japanese"
    ]  # fmt: skip


def test_what_it_keeps(fitted: SurnameClassifierEstimator) -> None:
    assert fitted.classes_.tolist() == sorted(set(LABELS))
    assert fitted.n_features_in_ == 1
    assert 1 <= fitted.n_iter_ <= 25
    assert fitted.vectorizer_.nationality_vocab.tokens == fitted.classes_.tolist()


def test_the_history_has_a_row_an_epoch(fitted: SurnameClassifierEstimator) -> None:
    assert fitted.history_["epoch"].tolist() == list(range(fitted.n_iter_))
    assert fitted.history_["train_loss"].iloc[-1] < fitted.history_["train_loss"].iloc[0]


def test_log_probabilities(fitted: SurnameClassifierEstimator) -> None:
    np.testing.assert_array_equal(
        fitted.predict_log_proba(NAMES), np.log(fitted.predict_proba(NAMES))
    )


def test_the_column_of_a_table_is_remembered() -> None:
    found = tiny(num_epochs=1).fit(pd.DataFrame({"surname": NAMES}), LABELS)
    assert found.feature_names_in_.tolist() == ["surname"]
    found.predict(pd.DataFrame({"surname": NAMES}))
    found.predict(NAMES)
    with pytest.raises(InputError, match="column 'city'; fit was given 'surname'"):
        found.predict(pd.DataFrame({"city": NAMES}))
    assert not hasattr(found.fit(NAMES, LABELS), "feature_names_in_")


class Broken:
    """In the place of a package that raises what it likes."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"built for another NumPy: {name}")


@pytest.mark.parametrize("without", [None, Broken()], ids=["missing", "broken"])
def test_neither_a_drawing_nor_an_error_needs_scikit_learn(
    monkeypatch: pytest.MonkeyPatch, without: Any
) -> None:
    for module in ("sklearn", "sklearn.utils", "sklearn.exceptions"):
        monkeypatch.setitem(sys.modules, module, without)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        tiny().predict(NAMES)
    assert tiny(cell="<b>")._repr_html_().startswith("<pre>SurnameClassifierEstimator(")
    assert "&lt;b&gt;" in tiny(cell="<b>")._repr_html_()


def test_an_estimator_from_a_backend_that_is_missing_says_where_it_is(
    fitted: SurnameClassifierEstimator,
) -> None:
    state = fitted.__getstate__()
    config, weights, _ = state["model"]
    twin = SurnameClassifierEstimator()
    with pytest.warns(UserWarning, match="cupy.*predicts with numpy"):
        twin.__setstate__(state | {"model": (config, weights, "cupy")})
    np.testing.assert_array_equal(twin.predict_proba(NAMES), fitted.predict_proba(NAMES))


def test_probabilities_are_in_the_order_of_the_classes(fitted: SurnameClassifierEstimator) -> None:
    found = fitted.predict_proba(NAMES)
    assert found.shape == (60, 3)
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert fitted.classes_[found.argmax(axis=1)].tolist() == fitted.predict(NAMES).tolist()
    right = np.mean(fitted.predict(NAMES) == np.array(LABELS))
    assert fitted.score(NAMES, LABELS) == pytest.approx(right)
    weights = (fitted.predict(NAMES) == np.array(LABELS)).astype(float)
    assert fitted.score(NAMES, LABELS, sample_weight=weights) == 1


def test_the_same_random_state_gives_the_same_bits(fitted: SurnameClassifierEstimator) -> None:
    expected = fitted.predict_proba(NAMES)
    assert np.array_equal(tiny().fit(NAMES, LABELS).predict_proba(NAMES), expected)
    again = copy.deepcopy(fitted).fit(NAMES, LABELS)
    assert np.array_equal(again.predict_proba(NAMES), expected)
    other = tiny(random_state=7).fit(NAMES, LABELS)
    assert not np.array_equal(other.predict_proba(NAMES), expected)
    one, two = (tiny(random_state=None, num_epochs=1).fit(NAMES, LABELS) for _ in range(2))
    assert not np.array_equal(one.predict_proba(NAMES), two.predict_proba(NAMES))


@pytest.mark.parametrize("X", [
    np.array(NAMES), np.array(NAMES, dtype=object), np.array(NAMES)[:, None], pd.Series(NAMES),
    pd.DataFrame({"surname": NAMES}), pd.Series(NAMES, index=range(60, 0, -1)), tuple(NAMES),
    pd.Series(NAMES, dtype="category"), [f" {name} " for name in NAMES],
], ids=lambda X: type(X).__name__)  # fmt: skip
def test_names_may_come_in_any_column(X: Any, fitted: SurnameClassifierEstimator) -> None:
    expected = fitted.predict_proba(NAMES)
    assert np.array_equal(fitted.predict_proba(X), expected)
    found = tiny().fit(X, np.array(LABELS)[:, None]).predict_proba(X)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    "classes",
    [np.array([7, -2, 30]), np.array([2.0, 0.0, 1.0]), np.array([False, True, False]),
     np.array(["b", "a", "c"], dtype=object), pd.Series(["x|y", "$", "a b"], dtype="string"),
     pd.Categorical(["u", "v", "w"])],
    ids=lambda classes: str(classes.dtype),
)  # fmt: skip
def test_labels_may_be_of_any_type(classes: Any) -> None:
    labels = np.array(classes)[np.unique(LABELS, return_inverse=True)[1]]
    found = tiny().fit(NAMES, labels)
    assert found.classes_.tolist() == sorted(set(labels.tolist()))
    assert found.predict(NAMES).dtype == labels.dtype
    assert found.score(NAMES, labels) > 0.9


def test_characters_are_those_of_the_rows_it_trains_on() -> None:
    targets = np.unique(LABELS, return_inverse=True)[1]
    held = np.flatnonzero(held_out(targets, 0.2, Random(1337, "validation")))
    names = [name + "ß" if row in held else name for row, name in enumerate(NAMES)]
    found = tiny(num_epochs=1).fit(names, LABELS)
    assert "ß" not in found.vectorizer_.char_vocab
    everything = tiny(num_epochs=1, validation_fraction=0).fit(names, LABELS)
    assert "ß" in everything.vectorizer_.char_vocab


def test_a_class_of_one_row_can_be_learned() -> None:
    found = tiny(validation_fraction=0, num_epochs=60).fit([*NAMES, "Qqqq"], [*LABELS, "Rare"])
    assert found.predict(["Qqqq"]).tolist() == ["Rare"]
    assert tiny().fit([*NAMES, "Qqqq"], [*LABELS, "Rare"]).classes_.tolist()[2] == "Rare"


def test_parameters_are_kept_as_given_and_set_by_name() -> None:
    size = np.int64(9)
    found = tiny(rnn_hidden_size=size, cell="gru")
    assert found.get_params()["rnn_hidden_size"] is size
    assert found.get_params(deep=False) == found.get_params()
    assert set(vars(found)) == set(found.get_params())
    assert found.set_params(cell="lstm", num_epochs=1) is found
    assert (found.cell, found.num_epochs) == ("lstm", 1)
    assert found.fit(NAMES, LABELS).model_.config.rnn_hidden_size == 9
    assert repr(SurnameClassifierEstimator(cell="gru")) == "SurnameClassifierEstimator(cell='gru')"
    with pytest.raises(ValueError, match=r"Invalid parameter 'hidden'.*rnn_hidden_size"):
        found.set_params(num_epochs=5, hidden=3)
    assert found.num_epochs == 1, "nothing is set where one is wrong"


#: Fields of the two configurations that are no parameters: what the data decide, and the rest.
DECIDED = {"num_embeddings", "num_classes", "padding_idx", "unk_idx", "num_ngrams", "seed"}
#: Settings that come with a recipe only.
LEFT_OUT = {
    "gradient_flow", "hidden_layer", "embedding_dropout", "char_dropout", "ngram_orders",
    "ngram_size", "ngram_dropout", "beta2", "weight_decay", "schedule", "warm_up", "bucket",
    "merge_repeats", "label_smoothing", "logit_adjustment", "consistency", "prior_correction",
    "class_weights", "ngram_min_count", "store",
}  # fmt: skip
OWN = {"recipe", "validation_fraction", "backend", "random_state", "verbose", "class_weight"}


def test_every_setting_is_a_parameter_or_left_out_knowingly() -> None:
    settings = {f.name for kind in (ClassifierConfig, TrainingConfig) for f in fields(kind)}
    params = SurnameClassifierEstimator().get_params()
    assert set(params) - OWN <= settings, "a parameter that nothing reads"
    assert settings - set(params) <= DECIDED | LEFT_OUT, "a setting that cannot be set"
    assert all(params[name] is None for name in set(params) - OWN), "given before it is"


def test_a_recipe_stands_for_what_is_not_given_alone() -> None:
    """A default that is given is used: a grid over cells has several models."""

    def config(**given: Any) -> ClassifierConfig:
        return tiny(recipe="wide", num_epochs=1, **given).fit(NAMES, LABELS).model_.config

    assert config().cell == "gru"
    assert config(cell="elman").cell == "elman"
    assert config(pooling="last", bidirectional=False).features < config().features


def test_clipping_may_be_left_out_of_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES["wide"], "clip_norm", 1e-4)
    fitted = [tiny(recipe="wide", num_epochs=2, clip_norm=clip).fit(NAMES, LABELS)
              for clip in (None, "none", 1e-4)]  # fmt: skip
    recipe, without, one = (found.predict_proba(NAMES) for found in fitted)
    np.testing.assert_array_equal(recipe, one)
    assert not np.array_equal(recipe, without)


@pytest.mark.parametrize("idle", [{"reset": "before"}, {"momentum": 0.9}, {"num_heads": 4}])
def test_a_parameter_that_cannot_apply_is_refused(idle: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(idle))} is .*; leave it out"):
        tiny(**idle).fit(NAMES, LABELS)


@pytest.mark.parametrize(
    "changed",
    [{"cell": "gru"}, {"pooling": "mean"}, {"embedding_size": 5}, {"dropout": 0.3},
     {"batch_size": 9}, {"learning_rate": 0.01}, {"bidirectional": True}, {"optimizer": "sgd"},
     {"clip_norm": 0.1}, {"validation_fraction": 0.3}, {"num_layers": 2},
     {"nonlinearity": "relu"}, {"recipe": "wide"}],
    ids=str,
)  # fmt: skip
def test_every_parameter_counts(changed: dict[str, Any]) -> None:
    plain = tiny(num_epochs=2).fit(NAMES, LABELS).predict_proba(NAMES)
    other = tiny(num_epochs=2, **changed).fit(NAMES, LABELS).predict_proba(NAMES)
    assert not np.array_equal(other, plain)


def test_it_stops_early() -> None:
    found = tiny(num_epochs=200, learning_rate=0.3, early_stopping_criteria=2)
    assert found.fit(NAMES, LABELS).n_iter_ < 100


@pytest.mark.parametrize(("X", "y", "words"), [
    ("Rossi", LABELS, "put it into a list"),
    ([], [], "0 rows"),
    ([*NAMES[:59], ""], LABELS, "X, row 59: ''"),
    ([*NAMES[:59], None], LABELS, "X, row 59: None"),
    ([*NAMES[:59], 3], LABELS, "X, row 59: 3"),
    (pd.Series([*NAMES[:59], np.nan]), LABELS, "X, row 59: nan"),
    (np.zeros((60, 2)), LABELS, r"shape \(60, 2\)"),
    ({"a": 1}, LABELS, "dict"),
    (NAMES, LABELS[:59], "60 rows, but y has 59"),
    (NAMES, None, "requires y"),
    (NAMES, [LABELS], r"y has shape \(1, 60\)"),
    (NAMES, ["one"] * 60, "only one class, one"),
    (NAMES, [*LABELS[:59], None], "y, row 59: None"),
    (NAMES, [*LABELS[:59], " "], "blank"),
    (NAMES, [*LABELS[:59], 4], "mixes text"),
    (NAMES, np.array([*LABELS[:59], 4], dtype=object), "cannot be sorted"),
    (NAMES, np.linspace(0, 1, 60), "Unknown label type: y, row 1"),
    (NAMES, [*range(59), np.nan], "y, row 59: nan"),
])  # fmt: skip
def test_bad_data_is_refused_in_one_line(X: Any, y: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        tiny().fit(X, y)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "value"), [
    ("cell", "rnn"), ("rnn_hidden_size", 0), ("rnn_hidden_size", 2.5), ("num_epochs", 0),
    ("num_epochs", "5"), ("batch_size", 1.5), ("learning_rate", "fast"), ("learning_rate", -1),
    ("dropout", 1.0), ("validation_fraction", 1), ("backend", "tpu"),
    ("validation_fraction", None), ("optimizer", "lbfgs"), ("class_weight", {"Klingon": 2}),
    ("class_weight", "heavy"), ("class_weight", {"Italian": -1}),
    ("random_state", -1), ("random_state", "x"), ("momentum", 0.5), ("clip_norm", 0),
    ("pooling", "median"), ("bidirectional", 1),
])  # fmt: skip
def test_bad_parameters_are_refused_by_fit_and_named(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name.replace("_", "[_ ]")):
        tiny(**{name: value}).fit(NAMES, LABELS)


def test_asking_before_fitting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.exceptions", None)
    calls: list[Callable[[], Any]] = [
        lambda: tiny().predict(NAMES),
        lambda: tiny().predict_proba(NAMES),
        lambda: tiny().score(NAMES, LABELS),
        lambda: tiny().save("nowhere"),
    ]
    for call in calls:
        with pytest.raises(NotFittedError, match="not fitted yet") as error:
            call()
        assert isinstance(error.value, ValueError)
        assert isinstance(error.value, AttributeError)


@pytest.mark.parametrize("X", [["Rossi", ""], "Rossi", [["Rossi", "Verdi"]], []], ids=str)
def test_bad_names_to_predict_are_refused(X: Any, fitted: SurnameClassifierEstimator) -> None:
    with pytest.raises(InputError):
        fitted.predict(X)


@pytest.mark.parametrize("cell", ["elman", "lstm", "transformer"])
def test_a_copy_predicts_the_same_and_shares_nothing(cell: str) -> None:
    found = tiny(cell=cell, num_epochs=2).fit(NAMES, LABELS)
    expected = found.predict_proba(NAMES)
    for twin in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert np.array_equal(twin.predict_proba(NAMES), expected)
        assert twin.get_params() == found.get_params()
        twin.model_.flat.values[...] = 0
        assert not np.array_equal(twin.predict_proba(NAMES), expected), "weights are views of flat"
    assert np.array_equal(found.predict_proba(NAMES), expected)
    assert pickle.loads(pickle.dumps(tiny(cell=cell))).get_params() == tiny(cell=cell).get_params()


def test_a_saved_model_is_one_of_npnlps(fitted: SurnameClassifierEstimator, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model.safetensors")
    loaded = Classifier.load(tmp_path / "model.safetensors")
    assert np.array_equal(loaded.probabilities(NAMES), fitted.predict_proba(NAMES))
    answers = [answer.nationality for answer in loaded.predict(NAMES)]
    assert answers == fitted.predict(NAMES).tolist()


def test_it_is_quiet_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    tiny(num_epochs=2).fit(NAMES, LABELS)
    assert capsys.readouterr() == ("", "")
    tiny(num_epochs=2, verbose=1).fit(NAMES, LABELS)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2"]


def test_the_best_epoch_is_kept_and_not_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    found = tiny(num_epochs=12, learning_rate=0.3, early_stopping_criteria=12, verbose=1)
    probabilities = found.fit(NAMES, LABELS).predict_proba(NAMES)
    lines = capsys.readouterr().out.splitlines()
    watched = [float(line.split("watched ")[1].split(",")[0]) for line in lines]
    assert min(watched) < watched[-1] - 0.01, "this case has to end worse than it was"
    targets = np.unique(LABELS, return_inverse=True)[1]
    held = held_out(targets, 0.2, Random(1337, "validation"))
    loss = -np.log(probabilities[held, targets[held]]).mean()
    assert loss == pytest.approx(min(watched), abs=1e-3)


def test_scikit_learn_and_pandas_are_not_imported_with_it() -> None:
    code = (
        "import sys, npnlp.estimator.estimator as e; e.SurnameClassifierEstimator(); "
        "print({'sklearn', 'pandas', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout.strip() == "set()"
