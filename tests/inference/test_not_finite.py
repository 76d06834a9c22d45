"""A name for which the model's numbers are not finite: said in one line, or left empty."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random
from npnlp.classifier.classifier import Classifier
from npnlp.classifier.prediction import Prediction
from npnlp.errors import InputError
from npnlp.estimator.estimator import SurnameClassifierEstimator
from npnlp.files.plain_json import parse_json
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SurnameVectorizer
from npnlp.text.vocabulary import SequenceVocabulary, Vocabulary
from tests.support.tables import npnlp, refusal, run_main

Capture = pytest.CaptureFixture[str]
LETTERS, LABELS = "abcdefgh", "xyz"
LONG = "abc" * 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose ReLU model overflows on a name of 3,000 letters."""
    chars, labels = SequenceVocabulary(), Vocabulary()
    chars.add_many(LETTERS)
    labels.add_many(LABELS)
    config = ClassifierConfig(
        len(chars), len(labels), embedding_size=6, rnn_hidden_size=8, cell="elman",
        nonlinearity="relu", pooling="attention",
    )  # fmt: skip
    model = SurnameClassifier(config, random=Random(0, "overflows"))
    model.parameters["rnn.weight_hh_l0"] *= 3
    place = tmp_path_factory.mktemp("overflows")
    Classifier(model, SurnameVectorizer(chars, labels)).save(place / "model.safetensors")
    return place


def names(count: int = 300) -> list[str]:
    generator = np.random.default_rng(0)
    return ["".join(generator.choice(list(LETTERS), n)) for n in generator.integers(2, 9, count)]


def lines_of(folder: Path, given: list[str], *options: str) -> list[str]:
    (folder / "names.txt").write_text("\n".join(given) + "\n")
    arguments = "--save-dir", folder, "--input", folder / "names.txt", "--output", folder / "out"
    assert run_main("predict", *arguments, *options) == 0
    return (folder / "out").read_text().splitlines()


def test_the_command_names_the_row_and_writes_nothing(folder: Path) -> None:
    (folder / "names.txt").write_text("\n".join([*names(100), LONG, *names(199)]))
    for more in ([], ["--json"], ["--top-k", "2"]):
        done = npnlp("predict", "--save-dir", folder, "--input", folder / "names.txt",
                     "--output", folder / "none", *more)  # fmt: skip
        assert (done.returncode, done.stdout) == (2, b"")
        refusal(done.stderr.decode(), "names.txt: row 101", "not finite")
        assert not (folder / "none").exists()


@pytest.mark.parametrize("top_k", ["1", "2"])
def test_fields_left_blank_and_neighbours_as_without(
    folder: Path, top_k: str, capsys: Capture
) -> None:
    clean, options = names(), ("--top-k", top_k, "--not-finite", "blank")
    expected = lines_of(folder, clean, *options)
    found = lines_of(folder, [*clean[:100], LONG, *clean[100:], LONG], *options)
    blank = LONG + 2 * int(top_k) * ","
    assert [found[101], found[302]] == [blank, blank]
    for line, other in zip([*found[:101], *found[102:302]], expected, strict=True):
        for field, of_other in zip(line.split(","), other.split(","), strict=True):
            near = field[:1] == "0" and abs(float(field) - float(of_other)) < 3e-6  # other sums
            assert field == of_other or near
    (note,) = capsys.readouterr().err.splitlines()
    assert "2 names have no prediction, the first in row 101" in note


def test_json_is_json_with_nulls(folder: Path, capsys: Capture) -> None:
    found = lines_of(folder, ["abc", LONG], "--json", "--not-finite", "blank")
    assert [parse_json(line)["nationality"] is None for line in found] == [False, True]
    assert run_main("predict", "--save-dir", folder, "--json", "--not-finite", "blank", LONG) == 0
    (one,) = parse_json(capsys.readouterr().out)
    assert one == {"surname": LONG, "nationality": None, "probability": None, "top": []}


def test_a_table_of_names_that_were_given(folder: Path, capsys: Capture) -> None:
    assert run_main("predict", "--save-dir", folder, "abc", LONG) == 2
    refusal(capsys.readouterr().err, "name 2, 'abcabc", "not finite")
    assert run_main("predict", "--save-dir", folder, "abc", LONG, "--not-finite", "blank") == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    assert "1 name has no prediction, the first in row 2" in printed.err


@pytest.mark.parametrize("count", [1, 20, 300])
def test_the_library_names_the_row(folder: Path, count: int) -> None:
    classifier, given = Classifier.load(folder / "model.safetensors"), [*names(count - 1), LONG]
    with pytest.raises(InputError, match=f"^name {count}, 'abcabc.*not finite"):
        classifier.predict(given)
    *others, last = classifier.predict(given, blank=True)
    assert last == Prediction(LONG, ())
    assert "top=()" in repr(last)
    assert all(len(one.top) == 1 for one in others)
    assert np.isnan(classifier.probabilities(given)).any(axis=1).tolist() == [
        *[False] * (count - 1), True
    ]  # fmt: skip


def test_the_estimator_names_the_row(folder: Path) -> None:
    classifier = Classifier.load(folder / "model.safetensors")
    estimator: Any = SurnameClassifierEstimator()
    estimator.model_, estimator.vectorizer_ = classifier.model, classifier.vectorizer
    estimator.classes_ = np.array(list(LABELS))
    with pytest.raises(InputError, match=r"^name 2, .*not finite"):
        estimator.predict(["abc", LONG])


def test_evaluate_prints_json(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(f"nationality,split,surname\nx,test,abc\ny,test,{LONG}\n")
    done = npnlp("evaluate", "--save-dir", folder, "--surname-csv", table, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["test"]["loss"] is None
    assert b"NaN" not in done.stdout
