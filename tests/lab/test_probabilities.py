"""What is measured of a run's probabilities, against the report and against counts by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random, get_backend
from npnlp.classifier.classifier import Classifier
from npnlp.classifier.decision import Decision
from npnlp.lab.probabilities import (
    TIMES,
    decisions_of,
    familiarity_of,
    measured,
    populations_of,
    scores_of,
)
from npnlp.lab.strings import random_strings
from npnlp.runs.report import write_report
from npnlp.runs.run import Run
from npnlp.text import SurnameDataset, own_table_path
from npnlp.training.config import TrainingConfig
from tests.support.tables import read_json

OTHERS = ["PlayStation", "3M", "Ford", "Xerox"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(own_table_path())
    made = Run.make(dataset, TrainingConfig(num_epochs=2), {}, get_backend("numpy"),
                    tmp_path_factory.mktemp("run"))  # fmt: skip
    made.train()
    write_report(made, made.evaluate())
    return made


@pytest.fixture(scope="module")
def rows_of_test(run: Run) -> tuple[list[str], Any]:
    return run.dataset.frames["test"]["surname"].tolist(), run.dataset.arrays("test").targets


def test_scores_are_those_of_the_report(run: Run) -> None:
    found, metrics = scores_of(run), read_json(run.save_dir / "metrics.json")
    assert found["temperature"] == metrics["temperature"] != 1.0
    for name in ("accuracy", "macro_f1", "log_loss", "brier", "calibration_error"):
        assert found[name] == pytest.approx(metrics["test"][name])
    assert found["log_loss"] < found["log_loss_before"]


def test_decisions_are_what_a_user_gets(run: Run, rows_of_test: tuple[list[str], Any]) -> None:
    names, targets = rows_of_test
    found, labels = decisions_of(run.classifier, names, targets), run.dataset.get_vectorizer()
    truth = [labels.nationality_vocab.lookup_index(target) for target in targets.tolist()]
    answers = run.classifier.predict(names, decision=Decision(precision=0.9, sets=0.8))
    right = [each.nationality == y for each, y in zip(answers, truth, strict=True) if each.top]
    assert 0 < len(right) < len(names)
    assert found["precision_0.9_answered"] == pytest.approx(len(right) / len(names))
    assert found["precision_0.9_right"] == pytest.approx(np.mean(right))
    sets = [each.labels or () for each in answers]
    covered = np.mean([y in each for y, each in zip(truth, sets, strict=True)])
    assert found["sets_0.8_covered"] == pytest.approx(covered)
    assert found["sets_0.8_size"] == pytest.approx(np.mean(list(map(len, sets))))


def test_a_population_by_hand(run: Run, rows_of_test: tuple[list[str], Any]) -> None:
    names, targets = rows_of_test
    found, held = populations_of(run.classifier, names, targets, 1, seed=4), run.calibration
    assert held is not None
    often = Random(4, "population 0").permutation(18)[:9]
    rows = np.where(np.isin(targets, often), TIMES, 1)
    p = run.classifier.probabilities(names).astype(np.float64)
    known = np.bincount(targets, rows) / rows.sum()
    for way, factor in (("as_it_is", 1.0), ("known", known / held.shares)):
        best = (p * factor).argmax(axis=1)
        expected = (rows * (best == targets)).sum() / rows.sum()
        assert found[f"prior_{way}"] == pytest.approx(expected, abs=1e-3)
    assert found["prior_known"] > found["prior_as_it_is"]
    change = found["prior_estimated"] - found["prior_known"]
    assert found["prior_difference"] == found["prior_worst"] == pytest.approx(change)


def test_familiarity_by_pairs(run: Run, rows_of_test: tuple[list[str], Any]) -> None:
    names, classifier = rows_of_test[0][:50], run.classifier
    assert classifier.familiarity is not None
    found = familiarity_of(classifier, names, OTHERS, 30, seed=1)
    kinds = {"names": names, "random": random_strings(30, names, 1), "others": OTHERS}
    for kind, texts in kinds.items():
        unlike = [
            not each.top for each in classifier.predict(texts, decision=Decision(unlike=True))
        ]
        assert found[f"{kind}_unlike"] == pytest.approx(np.mean(unlike))
    assert found["random_area"] > 0.95
    assert found["random_area"] > found["others_area"] > 0.5


def test_what_a_model_cannot_have_is_no_number(
    run: Run, rows_of_test: tuple[list[str], Any]
) -> None:
    without = Classifier(run.classifier.model, run.classifier.vectorizer)
    names, targets = rows_of_test[0][:20], rows_of_test[1][:20]
    for found in (
        decisions_of(without, names, targets),
        populations_of(without, names, targets, 1, seed=0),
        familiarity_of(without, names, OTHERS, 5, seed=0),
    ):
        assert all(map(math.isnan, found.values()))


def test_a_row_has_all_of_it(run: Run) -> None:
    found = measured(run, OTHERS, draws=2, count=20)
    assert found["model_bytes"] == run.model_file.stat().st_size
    assert all(map(math.isfinite, found.values()))
    assert found["prior_worst"] <= found["prior_difference"]
