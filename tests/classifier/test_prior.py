"""Another population: shares of classes that are known, and that are estimated."""

from __future__ import annotations

import gzip
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random, get_backend
from npnlp.classifier.building import make_classifier
from npnlp.classifier.classifier import Classifier
from npnlp.classifier.prior import (
    ADDED,
    estimate_shares,
    estimated_shares,
    for_shares,
    read_shares,
)
from npnlp.classifier.temperature import calibrate
from npnlp.cli import main
from npnlp.errors import InputError
from npnlp.text import SurnameDataset, own_table_path


def test_a_step_by_hand() -> None:
    # At the fixed point one more step changes nothing.
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    held = np.array([0.5, 0.5])
    s = estimate_shares(p, held)
    of_names = p * s / held
    of_names /= of_names.sum(axis=1, keepdims=True)
    assert s == pytest.approx((of_names.sum(axis=0) + ADDED * held) / (3 + ADDED), abs=1e-6)
    assert s.sum() == pytest.approx(1.0)


def test_the_same_population_changes_nothing() -> None:
    p = Random(0, "p").uniform((500, 4)) + 0.1
    p /= p.sum(axis=1, keepdims=True)
    held = p.mean(axis=0)
    assert estimate_shares(p, held) == pytest.approx(held, abs=1e-6)


def test_shares_of_a_mixture_are_found() -> None:
    """Numbers from two normal distributions, in the shares 0.5 and 0.5, and then 0.85 and 0.15."""
    random, n = Random(3, "mixture"), 20_000
    y = random.uniform((n,)) < 0.15
    x = random.child("x").normal((n,)) + np.where(y, 1.0, -1.0)
    p = 1 / (1 + np.exp(-2 * x))
    s = estimate_shares(np.stack([1 - p, p], axis=1), np.array([0.5, 0.5]))
    assert s[1] == pytest.approx(y.mean(), abs=0.01)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(own_table_path())
    model = make_classifier(dataset, {}, get_backend("numpy"), seed=1)
    calibration = calibrate(model, dataset.arrays("val"))
    return Classifier(model, dataset.get_vectorizer(), None, calibration)


NAMES = ["Nakamoto", "O'Neill", "Sørensen", "Ng"]


def test_probabilities_are_reweighted(classifier: Classifier) -> None:
    labels = classifier.vectorizer.nationality_vocab.tokens
    shares = {label: float(place) for place, label in enumerate(labels)}
    assert classifier.calibration is not None
    before = classifier.probabilities(NAMES).astype(np.float64)
    weights = np.arange(18) / np.arange(18).sum() / classifier.calibration.shares
    expected = before * weights / (before * weights).sum(axis=1, keepdims=True)
    found = for_shares(classifier, shares)
    np.testing.assert_allclose(found.probabilities(NAMES), expected, rtol=1e-4, atol=1e-12)
    np.testing.assert_array_equal(classifier.probabilities(NAMES), before.astype(np.float32))
    assert found.calibration is None


def test_estimated_shares_are_those_of_the_model(classifier: Classifier) -> None:
    found = estimated_shares(classifier, [*NAMES, "山田"])  # which the model cannot read
    assert classifier.calibration is not None
    expected = estimate_shares(classifier.probabilities(NAMES), classifier.calibration.shares)
    assert list(found.values()) == pytest.approx(expected.tolist())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Irihs": 1.0}, "did you mean Irish"),
        ({"Irish": -1.0}, "at least 0"),
        ({"Irish": float("nan")}, "at least 0"),
        ({"Irish": None}, "has no share"),
        ({"Irish": "much"}, "at least 0"),
        ({"Irish": [1.0]}, "at least 0"),
        ({3: 1.0}, "3 is no label"),
    ],
)
def test_wrong_shares_are_refused(
    classifier: Classifier, change: dict[Any, Any], said: str
) -> None:
    given: dict[Any, Any] = dict.fromkeys(classifier.vectorizer.nationality_vocab.tokens, 0.1)
    given |= change
    with pytest.raises(InputError, match=said):
        for_shares(classifier, {k: v for k, v in given.items() if v is not None})


def test_all_zero_and_no_calibration_are_refused(classifier: Classifier) -> None:
    labels = classifier.vectorizer.nationality_vocab.tokens
    with pytest.raises(InputError, match="not all 0"):
        for_shares(classifier, dict.fromkeys(labels, 0.0))
    without = Classifier(classifier.model, classifier.vectorizer)
    with pytest.raises(InputError, match="no rows held out"):
        estimated_shares(without, NAMES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nationality,share\nIrish,a\n", "row 2, column share: 'a' is no number"),
        ("class,share\n\nIrish,nan\n", "row 3, column share: 'nan' is no number"),
        ("class,share\nIrish,-1\n", "row 2, column share: '-1' is no number of at least 0"),
        ("class,share\nIrish\n", "row 2: 1 fields"),
        ("class,share\nIrish,1,2\n", "row 2: 3 fields"),
        ('class,share\n"Irish', "cannot be read"),
        ("nationality;share\nIrish;1\nIrish;2\n", "row 3.*stands there twice"),
        ("label,weight\nIrish,1\n", "share or prior or count is missing"),
        ("", "country or class is missing; found: nothing"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "shares.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said) as raised:
        read_shares(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_spreadsheets_file_is_read(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "shares.csv"
    rows = (["id", "Country ", "COUNT"], ["1", "Cura\u00e7ao", "3"], ["2", " Irish", "0.5"], [""])
    text = "\r\n".join(delimiter.join(row) for row in rows)
    decomposed = unicodedata.normalize("NFD", text)
    path.write_bytes(b"\xef\xbb\xbf" + decomposed.encode())
    assert read_shares(path) == {"Cura\u00e7ao": 3.0, "Irish": 0.5}


def test_shares_may_be_as_large_as_numbers_are(classifier: Classifier) -> None:
    labels = classifier.vectorizer.nationality_vocab.tokens
    large, small = (for_shares(classifier, dict.fromkeys(labels, x)) for x in (1e308, 1.0))
    np.testing.assert_array_equal(large.probabilities(NAMES), small.probabilities(NAMES))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("packed", [False, True])
def test_shares_are_read_as_tables_are(tmp_path: Path, encoding: str, packed: bool) -> None:
    content = "Country;Share\r\nCôte d'Ivoire;0.25\r\nIrish;3\r\n".encode(encoding)
    path = tmp_path / ("shares.csv.gz" if packed else "shares.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    assert read_shares(path) == {"Côte d'Ivoire": 0.25, "Irish": 3.0}


def test_the_command(
    classifier: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier.save(tmp_path / "model.safetensors")
    labels = classifier.vectorizer.nationality_vocab.tokens
    shares = tmp_path / "shares.csv"
    rows = [f"{label};{place}" for place, label in enumerate(labels)]
    shares.write_text("\n".join(["Country;Share", *rows]), encoding="utf-8")
    run = ["predict", "--save-dir", str(tmp_path), "--json", "--prior"]
    assert main([*run, str(shares), *NAMES]) == 0
    out, err = capsys.readouterr()
    found = for_shares(classifier, dict(zip(labels, map(float, range(18)), strict=True)))
    for said, each in zip(json.loads(out), found.predict(NAMES), strict=True):
        assert said["nationality"] == each.nationality
        assert said["probability"] == pytest.approx(each.probability, rel=1e-4)
    assert "it is assumed" in err
    names = tmp_path / "names.txt"
    names.write_text("\n".join(NAMES), encoding="utf-8")
    assert main([*run, "estimate", "--input", str(names)]) == 0
    out, err = capsys.readouterr()
    assert "estimated from 4 names" in err
    known = for_shares(classifier, estimated_shares(classifier, NAMES))
    for line, each in zip(out.splitlines(), known.predict(NAMES), strict=True):
        assert json.loads(line)["probability"] == pytest.approx(each.probability, rel=1e-4)
    few = tmp_path / "few.csv"
    few.write_text("class,share\nIrihs,1\n", encoding="utf-8")
    for given, said in (
        (["estimate", "--input", "-"], "no pipe"),
        ([str(shares), "Ng", "--sets", "0.9"], "--sets"),
        ([str(tmp_path / "none.csv"), "Ng"], "none.csv"),
        ([str(few), "Ng"], f"{few}: 'Irihs' is no label of the model; did you mean Irish?"),
        (["estimate", "山田"], "the model knows no character"),
    ):
        assert main([*run, *given]) == 2
        assert said in capsys.readouterr().err
