"""Thresholds and sets, against counts by hand and on new rows; and what the command says."""

from __future__ import annotations

import copy
import csv
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest

from npnlp.backend import Random, get_backend
from npnlp.classifier.building import make_classifier
from npnlp.classifier.calibration import Calibration
from npnlp.classifier.classifier import Classifier
from npnlp.classifier.decision import LITTLE, UNREAD, Decision, quantiles, threshold
from npnlp.classifier.temperature import calibrate
from npnlp.cli import main
from npnlp.errors import InputError
from npnlp.layers import softmax
from npnlp.text import SurnameDataset, own_table_path


def held_out(rows: list[tuple[float, float, int]], classes: int = 3) -> Calibration:
    """Rows of (confidence, truth, target)."""
    confidence, truth, target = (np.array(column) for column in zip(*rows, strict=True))
    return Calibration(
        1.0, confidence.astype(np.float32), truth.astype(np.float32),
        target.astype(np.int32), np.full(classes, 1 / classes),
    )  # fmt: skip


#: Right, right, wrong, right, wrong: precision 1, 1, 2/3, 3/4, 3/5 from the most probable down.
FIVE = held_out([(0.9, 0.9, 0), (0.8, 0.8, 1), (0.7, 0.2, 1), (0.6, 0.6, 2), (0.5, 0.4, 0)])


@pytest.mark.parametrize(
    ("precision", "least"), [(1.0 - 1e-9, 0.8), (0.76, 0.8), (0.75, 0.6), (0.6, 0.0), (0.1, 0.0)]
)
def test_threshold_by_hand(precision: float, least: float) -> None:
    assert threshold(FIVE, precision) == pytest.approx(least)


def test_rows_as_probable_go_together() -> None:
    tied = held_out([(0.9, 0.9, 0), (0.9, 0.05, 1), (0.9, 0.9, 0), (0.5, 0.5, 2), (0.4, 0.3, 2)])
    assert threshold(tied, 0.7) == pytest.approx(0.5)
    with pytest.raises(InputError, match=r"0.8, .* best was 0.75"):
        threshold(tied, 0.8)


def test_quantiles_by_hand() -> None:
    # Scores: 0, 0, 0.8, 0, 0.6. k = ceil(6 level): 0.5 is the third smallest, 0.8 the fifth.
    assert quantiles(FIVE, 0.0) == pytest.approx(np.zeros(3))
    assert quantiles(FIVE, 0.5) == pytest.approx(np.zeros(3))
    assert quantiles(FIVE, 0.6) == pytest.approx(np.full(3, 0.6))
    assert quantiles(FIVE, 0.8) == pytest.approx(np.full(3, 0.8))
    assert quantiles(FIVE, 0.9) == pytest.approx(np.ones(3))
    # Class 0 has 0 and 0.6, class 1 has 0 and 0.8, class 2 one row, too few for a half but not 0.4.
    assert quantiles(FIVE, 0.6, by_class=True) == pytest.approx([0.6, 0.8, 0.6])


def test_the_rank_is_not_one_too_high_by_rounding() -> None:
    # 100 * 0.55 is 55.00000000000001: the 55th smallest score, and not the 56th.
    scores = np.arange(1, 100) / 100
    rows = [(0.999, 1 - score, 0) for score in scores]
    assert quantiles(held_out(rows), 0.55)[0] == pytest.approx(0.55, abs=1e-4)


def test_sets_by_hand() -> None:
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.25, 0.35, 0.4]])
    assert Decision(sets=0.8).sets_of(p, FIVE) == [[0, 1, 2], [1], [2, 1, 0]]
    assert Decision(sets=0.6).sets_of(p, FIVE) == [[0], [1], [2]]
    assert Decision(sets=0.6, by_class=True).sets_of(p, FIVE) == [[0, 1], [1], [2, 1]]
    assert Decision(sets=0.8).sets_of(p[:0], FIVE) == []


def test_the_bound_of_a_small_probability_keeps_its_digits() -> None:
    held = held_out([(0.9, 1e-9, 1)])
    found = Decision(sets=0.5).sets_of(np.array([[1.0, 1.01e-9, 0.99e-9]]), held)
    assert found == [[0, 1]]


@pytest.mark.parametrize("by_class", [False, True])
def test_sets_hold_the_truth_of_new_rows_as_often_as_promised(by_class: bool) -> None:
    random = Random(5, "sets")
    logits = 2 * random.normal((6000, 4)) + np.array([1.0, 0.5, 0.0, -0.5])
    p = softmax(logits, np)
    targets = (random.child("y").uniform((6000, 1)) > p.cumsum(axis=1)).sum(axis=1)
    old, new = slice(3000), slice(3000, None)
    truth = p[old][np.arange(3000), targets[old]]
    held = Calibration(
        1.0, p[old].max(axis=1).astype(np.float32), truth.astype(np.float32),
        targets[old].astype(np.int32), p[old].mean(axis=0),
    )  # fmt: skip
    sets = Decision(sets=0.9, by_class=by_class).sets_of(p[new], held)
    inside = np.array([y in each for y, each in zip(targets[new], sets, strict=True)])
    assert inside.mean() == pytest.approx(0.9, abs=0.015)
    for label in range(4) if by_class else ():
        assert inside[targets[new] == label].mean() == pytest.approx(0.9, abs=0.035)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"min_probability": 1.5}, "min_probability is 1.5"),
        ({"precision": -0.1}, "precision is -0.1"),
        ({"sets": 1.0}, "sets is 1"),
        ({"by_class": True}, "by_class"),
    ],
)
def test_what_is_out_of_range_is_refused(given: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Decision(**given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(own_table_path())
    model = make_classifier(dataset, {}, get_backend("numpy"), seed=1)
    for value in model.fc2.parameters.values():
        value *= 8.0
    calibration = calibrate(model, dataset.arrays("val"))
    return Classifier(model, dataset.get_vectorizer(), None, calibration)


@pytest.fixture(scope="module")
def run(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    classifier.save(folder / "model.safetensors")
    return folder


NAMES = ["Nakamoto", "O'Neill", "山田", "Sørensen", "Ng"]


def test_every_name_has_an_answer_unless_asked(classifier: Classifier) -> None:
    assert all(each.top and not each.reason for each in classifier.predict(NAMES))


def test_reasons(classifier: Classifier) -> None:
    probability = sorted(each.probability for each in classifier.predict(NAMES))
    least = (probability[1] + probability[2]) / 2
    found = classifier.predict(NAMES, decision=Decision(min_probability=least, unread=True))
    plain = classifier.predict(NAMES)
    for before, after in zip(plain, found, strict=True):
        if before.surname == "山田":
            assert (after.top, after.reason) == ((), UNREAD)
        elif before.probability < least:
            assert (after.top, after.reason) == ((), LITTLE)
        else:
            assert after == before


@pytest.mark.parametrize("decision", [Decision(precision=0.5), Decision(sets=0.9)])
def test_a_model_without_rows_held_out_is_refused(
    classifier: Classifier, decision: Decision
) -> None:
    without = Classifier(classifier.model, classifier.vectorizer)
    with pytest.raises(InputError, match="no rows held out"):
        without.predict(NAMES, decision=decision)


def test_sets_of_many_are_those_of_one(classifier: Classifier) -> None:
    names, decision = NAMES * 100, Decision(sets=0.5, by_class=True)
    many = classifier.predict(names, decision=decision)
    one = classifier.predict([names[1]], decision=decision)[0]
    assert many[1].labels == many[6].labels == one.labels
    assert one.labels is not None
    assert one.labels[0] == one.nationality


def test_no_name_lacks_an_answer_at_a_precision_that_all_have(classifier: Classifier) -> None:
    assert classifier.calibration is not None
    least = float(classifier.calibration.right.mean())
    found = classifier.predict(NAMES, decision=Decision(precision=0.9 * least))
    assert all(each.top for each in found)


@pytest.mark.parametrize("exact", [False, True])
def test_a_name_at_the_threshold_has_an_answer_whatever_stands_beside_it(
    classifier: Classifier, exact: bool
) -> None:
    path = own_table_path()
    names = SurnameDataset.load_dataset_and_make_vectorizer(path).frames["val"]["surname"].tolist()
    held = classifier.calibration
    assert held is not None
    answered = held.confidence >= np.quantile(held.confidence, 0.7, method="nearest")
    truth = np.where(answered, held.confidence, np.float32(0))
    same = Classifier(classifier.model, classifier.vectorizer)
    same.calibration = dataclasses.replace(held, truth=truth)
    chosen = [names[n] for n in np.flatnonzero(answered).tolist()]
    decision = Decision(precision=0.999)
    assert all(each.top for each in same.predict(chosen, decision=decision, exact=exact))
    assert not all(each.top for each in same.predict(names, decision=decision, exact=exact))


def test_a_name_without_numbers_has_no_set(classifier: Classifier) -> None:
    damaged = Classifier(copy.deepcopy(classifier.model), classifier.vectorizer)
    damaged.calibration = classifier.calibration
    damaged.model.fc2.parameters["bias"][0] = np.nan
    (found,) = damaged.predict(["Ng"], blank=True, decision=Decision(sets=0.9))
    assert (found.top, found.labels) == ((), ())


def predict(run: Path, *given: str) -> int:
    return main(["predict", "--save-dir", str(run), *given])


def test_csv_has_reasons_and_sets(
    run: Path, classifier: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES), encoding="utf-8")
    least = ["--min-probability", "0.2", "--sets", "0.6", "--top-k", "2"]
    assert predict(run, "--input", str(path), *least) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    decision = Decision(min_probability=0.2, sets=0.6, unread=True)
    found = classifier.predict(NAMES, 2, decision=decision)
    for row, each in zip(rows, found, strict=True):
        assert row["reason"] == each.reason
        assert row["nationality"] == (each.nationality if each.top else "")
        assert row["nationality_2"] == (each.top[1][0] if each.top else "")
        assert row["set"] == "|".join(each.labels or ())


def test_a_name_that_cannot_be_read_has_no_answer(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(run, "山田", "Ng", "--json") == 0
    unread, read = json.loads(capsys.readouterr().out)
    assert (unread["nationality"], unread["reason"]) == (None, UNREAD)
    assert "reason" not in read
    path = tmp_path / "names.txt"
    path.write_text("山田\nNg\n", encoding="utf-8")
    assert predict(run, "--input", str(path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["surname,nationality,probability", "山田,,"]
    assert lines[2].startswith("Ng,")
    assert predict(run, "山田") == 0
    assert f"no answer: {UNREAD}" in capsys.readouterr().out


def test_a_blank_row_has_as_many_fields(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "names.txt"
    path.write_text("Ng\n\nNg\n", encoding="utf-8")
    given = ["--min-probability", "0.1", "--sets", "0.9", "--on-empty", "blank"]
    assert predict(run, "--input", str(path), *given) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert {len(row) for row in rows} == {5}
    assert predict(run, "--input", str(path), *given, "--json") == 0
    sets = [json.loads(line)["set"] for line in capsys.readouterr().out.splitlines()]
    assert [len(each) > 0 for each in sets] == [True, False, True]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--precision", "0.999999"], "precision is 0.999999"),
        (["--sets", "2"], "sets is 2"),
        (["--by-class"], "by_class"),
    ],
)
def test_bad_options_are_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    assert predict(run, "Ng", *given) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
