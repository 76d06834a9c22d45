"""The comparison's figures, each reckoned a second time by other means."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.errors import InputError
from npnlp.lab.comparison import (
    SCORES,
    Answers,
    Result,
    answers_of,
    corrected,
    default_entrants,
    ensemble,
    entrant_of,
    log_prior_of,
    model_rows,
    nationality_rows,
    paired_rows,
    score,
    summary_rows,
    train,
)
from npnlp.models import ClassifierConfig
from npnlp.runs.intervals import T_VALUES, t_interval
from npnlp.text import SurnameDataset
from npnlp.training.config import TrainingConfig
from npnlp.training.recipes import RECIPES
from tests.support.tables import make_run, small_dataset, small_rows

TINY = {"rnn_hidden_size": 8, "embedding_size": 6, "num_epochs": 2, "learning_rate": 0.02}


def guesses(seed: int, rows: int, classes: int) -> Any:
    drawn = np.random.default_rng(seed).random((rows, classes))
    return drawn / drawn.sum(axis=1, keepdims=True)


def naive_scores(targets: list[int], predictions: list[int]) -> dict[str, float]:
    """The definitions, a class at a time."""
    pairs = list(zip(targets, predictions, strict=True))
    recalls, f1s = [], []
    for label in set(targets) | set(predictions):
        hits = sum(1 for t, p in pairs if t == p == label)
        true, predicted = targets.count(label), predictions.count(label)
        if true:
            recalls.append(hits / true)
        precision, recall = hits / max(predicted, 1), hits / max(true, 1)
        f1s.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    return {
        "accuracy": sum(t == p for t, p in pairs) / len(pairs),
        "balanced_accuracy": sum(recalls) / len(recalls),
        "macro_f1": sum(f1s) / len(f1s),
    }


def student_cdf(t: float, degrees: int) -> float:
    """By the density, integrated from 0 to t with Simpson's rule."""
    x = np.linspace(0.0, t, 20_001)
    log_scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)
    scale = math.exp(log_scale) / math.sqrt(degrees * math.pi)
    y = scale * (1 + x * x / degrees) ** (-(degrees + 1) / 2)
    weights = np.ones(len(x))
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    return 0.5 + float((weights * y).sum() * (x[1] - x[0]) / 3)


@pytest.mark.parametrize(("degrees", "factor"), list(enumerate(T_VALUES, start=1)))
def test_factors_are_those_of_students_distribution(degrees: int, factor: float) -> None:
    assert student_cdf(factor - 0.0006, degrees) < 0.975 < student_cdf(factor + 0.0006, degrees)


def test_an_interval_is_that_of_the_textbook() -> None:
    # Mean 3, variance 2.5, and 2.776 times the root of 2.5 / 5.
    mean, low, high = t_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (mean, low, high) == pytest.approx((3.0, 3 - 1.96293, 3 + 1.96293), abs=1e-4)


def test_one_value_has_no_interval_and_many_take_the_last_factor() -> None:
    mean, low, high = t_interval([0.7])
    assert mean == 0.7
    assert math.isnan(low)
    assert math.isnan(high)
    mean, low, high = t_interval([0.0, 1.0] * 50)
    assert high - mean == pytest.approx(2.045 * math.sqrt(100 * 0.25 / 99) / 10)


def test_unseen_rows_are_those_whose_name_train_has_not(tmp_path: Path) -> None:
    rows = small_rows()
    known = next(name for _, split, name in rows if split == "train")
    # Known whatever its label and however it is written; in another case it is another name.
    extra = [("Japanese", "test", known), ("Italian", "test", f" {known} "),
             ("Italian", "test", known.upper())]  # fmt: skip
    dataset = make_run(tmp_path / "run", [*rows, *extra]).dataset
    unseen = answers_of(dataset, "test").unseen
    assert unseen.tolist() == [True] * 9 + [False, False, True]


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_their_definitions_on_all_rows_and_on_unseen_ones(seed: int) -> None:
    random = np.random.default_rng(seed)
    answers = Answers(random.integers(0, 4, 40), random.random(40) < 0.5, list("abcde"))
    probabilities = guesses(seed, 40, 5)
    found = score(probabilities, answers)
    predictions = [int(np.argmax(row)) for row in probabilities]
    targets = answers.targets.tolist()
    few = [row for row in range(40) if answers.unseen[row]]
    every = naive_scores(targets, predictions)
    unseen = naive_scores([targets[r] for r in few], [predictions[r] for r in few])
    expected = every | {f"unseen_{name}": value for name, value in unseen.items()}
    assert found == pytest.approx(expected)


def test_without_unseen_rows_their_scores_are_nan() -> None:
    answers = Answers(np.array([0, 1]), np.array([False, False]), ["a", "b"])
    found = score(guesses(0, 2, 2), answers)
    assert all(math.isnan(found[f"unseen_{name}"]) for name in SCORES)


def result(dataset: SurnameDataset, seed: int, entrant: str = "guess") -> Result:
    probabilities = {s: guesses(seed, len(dataset.frames[s]), 3) for s in ("val", "test")}
    return Result(entrant, seed, probabilities, 10 + seed, 2.0 + seed, 3)


def test_an_ensemble_gives_the_mean_and_costs_the_sum(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    results = [result(dataset, seed) for seed in range(3)]
    joint = ensemble("all", results)
    for split in ("val", "test"):
        expected = sum(each.probabilities[split] for each in results) / 3
        assert np.allclose(joint.probabilities[split], expected, rtol=1e-12)
    assert (joint.seed, joint.parameters, joint.seconds, joint.epochs) == (None, 33, 9.0, 9)


def test_the_tables_have_the_mean_of_each_entrants_runs(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    results = [result(dataset, seed) for seed in range(3)] + [result(dataset, 9, "other")]
    rows = model_rows(results, dataset)
    first, other = summary_rows(rows)
    assert (first["entrant"], first["runs"], other["entrant"], other["runs"]) == (
        "guess", 3, "other", 1,
    )  # fmt: skip
    for name in (*SCORES, *(f"unseen_{each}" for each in SCORES)):
        of_runs = [row[name] for row in rows[:3]]
        assert (first[name], first[f"{name}_low"], first[f"{name}_high"]) == t_interval(of_runs)
        assert other[name] == rows[3][name]
    by_class = nationality_rows(results, dataset)
    assert len(by_class) == 2 * 3
    own = [row for row in by_class if row["entrant"] == "guess"]
    # The mean over classes that all occur is what the summary says.
    assert np.mean([row["recall"] for row in own]) == pytest.approx(first["balanced_accuracy"])
    assert np.mean([row["f1"] for row in own]) == pytest.approx(first["macro_f1"])
    assert sum(row["rows"] for row in own) == len(dataset.frames["test"])


def test_training_is_that_of_the_command(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    found = train(entrant_of("tiny", {**TINY, "class_weights": "inverse"}), dataset, seed=5)
    run = make_run(tmp_path / "run", num_epochs=2, batch_size=64, class_weights="inverse")
    run.train()
    metrics = {split: each.metrics for split, each in run.evaluate().items()}
    for split in ("val", "test"):
        scores = score(found.probabilities[split], answers_of(dataset, split))
        assert {name: scores[name] for name in SCORES} == pytest.approx(
            {name: metrics[split][name] for name in SCORES}
        )
    assert found.parameters == run.trainer.model.flat.values.size
    assert (found.epochs, found.seed) == (2, 5)
    assert found.seconds > 0


def test_only_the_named_splits_are_looked_at(tmp_path: Path) -> None:
    found = train(entrant_of("tiny", TINY), small_dataset(tmp_path), 0, ("val",))
    assert list(found.probabilities) == ["val"]


def test_a_correction_afterwards_is_that_of_the_trainer(tmp_path: Path) -> None:
    dataset = make_run(tmp_path / "run", small_rows()[:45]).dataset
    plain, taken = (
        train(entrant_of("tiny", {**TINY, "prior_correction": tau}), dataset, 1, ("val",))
        for tau in (0.0, 0.7)
    )
    prior = log_prior_of(dataset)
    assert np.ptp(prior) > 0.5
    before, after = plain.probabilities["val"], taken.probabilities["val"]
    assert np.abs(before - after).max() > 0.01
    assert np.allclose(corrected(before, prior, 0.7), after, atol=1e-5)
    assert np.allclose(corrected(after, prior, -0.7), before, atol=1e-5)


def test_changes_are_paired_by_seed() -> None:
    rows = [
        {"variant": variant, "seed": seed, "accuracy": value, "macro_f1": 2 * value}
        for variant, values in {"whole": (0.5, 0.7), "less": (0.4, 0.5)}.items()
        for seed, value in enumerate(values)
    ]
    whole, less = paired_rows([*rows[:2], rows[3], rows[2]], "variant", "whole")
    assert whole["accuracy_change"] == 0
    assert less["accuracy"] == pytest.approx(0.45)
    ends = [less[f"accuracy_change{end}"] for end in ("", "_low", "_high")]
    # -0.1 and -0.2: 12.706 times the root of 0.005 / 2 on both sides of the mean.
    assert ends == pytest.approx([-0.15, -0.15 - 0.6353, -0.15 + 0.6353])
    assert less["macro_f1_change"] == pytest.approx(-0.3)


def test_every_entrant_is_one_that_can_be_trained() -> None:
    entrants = {entrant.name: entrant for entrant in default_entrants()}
    assert len(entrants) == len(default_entrants()) == 10 + len(RECIPES)
    for entrant in entrants.values():
        TrainingConfig(**entrant.training)
        grams = 9 if entrant.shape.get("ngram_orders") else 0
        shape: Any = {**entrant.shape, "num_ngrams": grams}
        ClassifierConfig(num_embeddings=9, num_classes=3, **shape)
    for name, settings in RECIPES.items():
        assert {**entrants[name].shape, **entrants[name].training} == settings


@pytest.mark.parametrize("options", [{"num_epoch": 3}, {"rnn_size": 3, "cell": "gru"}])
def test_a_setting_that_is_not_known_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"rnn_size|num_epoch"):
        entrant_of("wrong", options)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A module of experiments/, as a script there imports it."""
    folder = Path(__file__).resolve().parents[2] / "experiments"
    monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module


def test_peers_that_are_not_installed_are_left_out_and_named(
    script: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compare = script("compare_models")
    for package in ("sklearn", "torch"):
        monkeypatch.setitem(sys.modules, package, None)
    assert compare.available(compare.KNOWN) == [*compare.OWN, *compare.ENSEMBLES]
    first, second = capsys.readouterr().out.splitlines()
    assert "scikit-learn" in first
    assert "ngrams, ngrams-balanced" in first
    assert "pytorch-elman, pytorch-gru, pytorch-lstm" in second
    assert "pip install" in first


@pytest.mark.parametrize(
    ("entrants", "word"), [(["elmann"], "'elmann'"), (["wide-ensemble"], "'wide'")]
)
def test_entrants_that_do_not_work_are_refused(
    script: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    entrants: list[str],
    word: str,
) -> None:
    arguments = ["compare_models.py", "--out", str(tmp_path / "out"), "--entrants", *entrants]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(InputError, match=word):
        script("compare_models").main()
    assert not (tmp_path / "out").exists()


def test_a_variant_that_changes_nothing_is_left_out(script: Callable[[str], Any]) -> None:
    ablation = script("recipe_ablation")
    recipe = RECIPES["wide"] | {"ngram_orders": []}
    found = ablation.variants_of(recipe, ["no n-grams", "one direction"])
    assert list(found) == ["whole", "one direction"]
    assert found["one direction"] == {**recipe, "bidirectional": False}


def test_a_variant_that_only_corrects_is_what_training_it_would_give(
    script: Callable[[str], Any], tmp_path: Path
) -> None:
    ablation = script("recipe_ablation")
    dataset = make_run(tmp_path / "run", small_rows()[:45]).dataset
    whole = {**TINY, "prior_correction": 0.3}
    variants = {"whole": whole, "more": {**whole, "prior_correction": 2.0}}
    _, found = ablation.rows_of(variants, dataset, range(4, 5), 1)
    trained = train(entrant_of("more", variants["more"]), dataset, 4, ("val",))
    expected = score(trained.probabilities["val"], answers_of(dataset, "val"))
    assert {name: found[name] for name in expected} == pytest.approx(expected, nan_ok=True)


@pytest.mark.peers
def test_the_ngram_model_is_chosen_on_val(tmp_path: Path, script: Callable[[str], Any]) -> None:
    pytest.importorskip("sklearn")
    dataset = small_dataset(tmp_path)
    found, tried = script("peers.ngrams").train(dataset, "ngrams-balanced")
    (chosen,) = [row for row in tried if row["chosen"]]
    assert chosen["val_macro_f1"] == max(row["val_macro_f1"] for row in tried)
    on_val = score(found.probabilities["val"], answers_of(dataset, "val"))
    assert on_val["macro_f1"] == chosen["val_macro_f1"]
    assert np.allclose(found.probabilities["test"].sum(axis=1), 1)


@pytest.mark.peers
def test_pytorch_learns_what_npnlp_learns(tmp_path: Path, script: Callable[[str], Any]) -> None:
    pytest.importorskip("torch")
    dataset = small_dataset(tmp_path)
    entrant = entrant_of("gru", {**TINY, "cell": "gru", "num_epochs": 30, "dropout": 0.0})
    found = [
        script("peers.pytorch").train(entrant, dataset, seed=3),
        train(entrant, dataset, seed=3),
    ]
    assert found[0].entrant == "pytorch-gru"
    assert found[0].parameters == found[1].parameters
    for each in found:
        assert score(each.probabilities["val"], answers_of(dataset, "val"))["accuracy"] > 0.8
