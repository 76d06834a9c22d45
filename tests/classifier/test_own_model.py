"""The model that comes with npnlp: what it says, which command trains it, and who speaks."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from npnlp import Classifier
from npnlp.backend import get_backend
from npnlp.classifier.model_file import own_model_path
from npnlp.cli import main
from npnlp.runs.report import environment
from npnlp.text import SurnameDataset, own_table_path, read_table

DESCRIBED = json.loads(own_model_path().with_name("model.json").read_text(encoding="utf-8"))


def answers(classifier: Classifier) -> tuple[list[str], float]:
    """The answers to the test names of the table, and the share of right ones."""
    frame = read_table(own_table_path())
    test = frame[frame["split"] == "test"]
    found = [each.nationality for each in classifier.predict(test["surname"])]
    return found, float(np.mean(np.array(found) == test["nationality"]))


def test_the_file_is_the_one_described_and_small() -> None:
    content = own_model_path().read_bytes()
    assert sha256(content).hexdigest() == DESCRIBED["sha256"]
    assert len(content) < 200_000


def test_its_answers_are_the_same_everywhere() -> None:
    found, accuracy = answers(Classifier.load())
    assert sha256("\n".join(found).encode()).hexdigest() == DESCRIBED["answers_sha256"]
    assert accuracy > 0.58
    card = own_model_path().with_name("MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"{accuracy:.4f}" in card.split("## Results")[1]


def test_it_is_what_the_command_makes(tmp_path: Path) -> None:
    """To the bit on the same kind of machine; elsewhere training rounds otherwise."""
    run = tmp_path / "run"
    assert main(["train", "--save-dir", str(run), "--no-pictures", "--quiet"]) == 0
    made, own = Classifier.load(run / "model.safetensors"), Classifier.load()
    made_with, here = DESCRIBED["environment"], environment(get_backend("numpy"))
    if {**here, "python": ""} == {**made_with, "python": ""}:
        content = (run / "model.safetensors").read_bytes()
        assert sha256(content).hexdigest() == DESCRIBED["sha256"]
    assert made.model.config == own.model.config
    assert made.vectorizer.vocabularies() == own.vectorizer.vocabularies()
    (ours, accuracy), (theirs, expected) = answers(made), answers(own)
    assert accuracy == pytest.approx(expected, abs=0.03)
    assert np.mean(np.array(ours) == theirs) > 0.75


def test_its_split_is_that_of_its_table() -> None:
    own, dataset = Classifier.load(), SurnameDataset.load_dataset_and_make_vectorizer(
        own_table_path()
    )  # fmt: skip
    assert own.table is not None
    assert own.table.is_of(dataset.rows)
    assert own.calibration is not None
    assert own.familiarity is not None


def test_a_run_in_the_working_folder_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "Nakamoto"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Nakamoto  Japanese 0.9")
    assert err.count("\n") == 1
    assert "the model that comes with npnlp" in err
    folder = Path("runs/surnames")
    folder.mkdir(parents=True)
    shutil.copy(own_model_path(), folder)
    assert main(["predict", "Nakamoto"]) == 0
    assert capsys.readouterr() == (out, "")
    assert main(["predict", "Nakamoto", "--save-dir", "other"]) == 2
    assert "train a model with" in capsys.readouterr().err
    assert main(["predict", "Nakamoto", "--model-state-file", "other.safetensors"]) == 2
    assert "other.safetensors" in capsys.readouterr().err


def test_it_can_be_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["test"]["accuracy"] == pytest.approx(answers(Classifier.load())[1])
    assert "the model that comes with npnlp" in err
