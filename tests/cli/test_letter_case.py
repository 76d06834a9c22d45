"""Letter case through the command: every way out reads names alike, and says what is unlike."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from npnlp import Classifier, SurnameClassifierEstimator
from npnlp.text import SurnameDataset
from npnlp.text.letter_case import AS_WRITTEN
from tests.support.tables import (
    npnlp,
    read_json,
    run_main,
    small_rows,
    train_small,
    tree,
    write_table,
)

Capture = pytest.CaptureFixture[str]
#: Names of characters that training knows, which it has not seen.
TEST = [
    name for _, split, name in small_rows()
    if split != "train" and not {"j", "h", "u"} & set(name)
]  # fmt: skip
WRITINGS = (str, str.upper, str.lower, str.title)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned the small table."""
    made = tmp_path_factory.mktemp("case") / "run"
    assert train_small(made, epochs=20) == 0
    return made


def labels_of(found: list[dict[str, Any]]) -> list[str]:
    return [entry["nationality"] for entry in found]


def test_every_way_out_reads_capitals_alike(folder: Path, tmp_path: Path) -> None:
    classifier = Classifier.load(folder / "model.safetensors")
    assert classifier.vectorizer.letter_case == "title"
    expected = [p.to_dict() for p in classifier.predict(TEST)]
    said = labels_of(expected)
    assert len(set(said)) > 1
    for write in WRITINGS:
        written = [write(name) for name in TEST]
        found = [p.to_dict() for p in classifier.predict(written)]
        assert labels_of(found) == said
        many = classifier.best(written * 40)[0][: len(TEST), 0]  # by another way
        tokens = classifier.vectorizer.nationality_vocab.tokens
        assert [tokens[place] for place in many] == said
    capitals = "\n".join(map(str.upper, TEST)) + "\n"
    done = npnlp("predict", "--save-dir", folder, "--json", "-", stdin=capitals.encode())
    assert labels_of(json.loads(done.stdout)) == said
    assert [set(entry) for entry in json.loads(done.stdout)] == [
        {"surname", "nationality", "probability", "top"}
    ] * len(TEST)
    note = done.stderr.decode()
    assert note == (
        f"npnlp predict: note: {len(TEST)} names are written unlike those of training, the first is "
        f"{TEST[0].upper()} in row 1: {len(TEST)} in capitals, read in title case\n"
    )
    (tmp_path / "names.txt").write_text(capitals)
    done = npnlp("predict", "--save-dir", folder, "--input", tmp_path / "names.txt")
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert [row["nationality"] for row in rows] == said
    assert [row["surname"] for row in rows] == [name.upper() for name in TEST]
    assert done.stderr.decode() == note


def test_files_evaluation_and_exports_keep_the_letter_case(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert read_json(folder / "vectorizer.json")["letter_case"] == "title"
    assert "read in title case" in (folder / "MODEL_CARD.md").read_text("utf-8")
    rows = [(label, split, name.upper()) for label, split, name in small_rows()]
    table = write_table(tmp_path / "capitals.csv", rows)
    of_column = ("--surname-csv", table, "--split-by", "column", "--json")
    assert run_main("evaluate", "--save-dir", folder, *of_column) == 0
    measured = json.loads(capsys.readouterr().out)
    metrics = read_json(folder / "metrics.json")
    assert measured == {split: metrics[split] for split in ("train", "val", "test")}
    state = tmp_path / "state.safetensors"
    assert run_main("export", "--save-dir", folder, "--output", state) == 0
    assert "title case" in capsys.readouterr().out
    assert run_main("import", state, "--save-dir", tmp_path / "again") == 0
    again = Classifier.load(tmp_path / "again" / "model.safetensors")
    assert again.vectorizer.to_serializable() == read_json(folder / "vectorizer.json")


def test_a_file_without_a_letter_case_reads_as_written_and_says_so(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    classifier = Classifier.load(folder / "model.safetensors")
    classifier.vectorizer.letter_case = AS_WRITTEN
    classifier.save(tmp_path / "model.safetensors")
    before = Classifier.load(tmp_path / "model.safetensors")
    assert before.predict(["Ramini"])[0].top == classifier.predict(["Ramini"])[0].top
    assert before.unknown_characters("RAMINI") == "AMII"
    assert run_main("predict", "--save-dir", tmp_path, "RAMINI", "Ramini") == 0
    assert "1 name is written unlike those of training, the first is RAMINI in row 1: 1 in capitals\n" in (
        capsys.readouterr().err
    )


def test_a_table_in_capitals_makes_a_model_for_all_writings(tmp_path: Path) -> None:
    names = [(label, split, name.upper()) for label, split, name in small_rows()]
    write_table(tmp_path / "small.csv", names)
    assert train_small(tmp_path / "run", "--no-gradient-flow", epochs=20) == 0
    classifier = Classifier.load(tmp_path / "run" / "model.safetensors")
    assert classifier.vectorizer.letter_case == "upper"
    said = [p.top for p in classifier.predict([name.upper() for name in TEST])]
    for write in WRITINGS:
        assert [p.top for p in classifier.predict([write(name) for name in TEST])] == said


def test_a_run_goes_on_from_the_letter_case_of_training(folder: Path, tmp_path: Path) -> None:
    """Resuming or reloading a finished run neither refuses what it has chosen, nor trains on it."""
    before = tree(folder)
    table = folder.parent / "small.csv"
    for option in ("--resume", "--reload-from-files"):
        (tmp_path / option).mkdir()
        for name, content in before.items():
            (tmp_path / option / name).write_bytes(content)
        write_table(tmp_path / "small.csv")
        assert train_small(tmp_path / option, option, epochs=20) == 0
        made = SurnameDataset.load_vectorizer_only(tmp_path / option / "vectorizer.json")
        assert made.letter_case == "title"
    assert (tmp_path / "--resume" / "model.safetensors").read_bytes() == before["model.safetensors"]
    assert table.exists()


def test_the_estimator_chooses_too() -> None:
    names = [name for _, _, name in small_rows()]
    labels = [label for label, _, _ in small_rows()]
    for fraction in (0.2, 0.0):
        fitted = SurnameClassifierEstimator(
            embedding_size=6, rnn_hidden_size=8, batch_size=16, learning_rate=0.02, num_epochs=20,
            validation_fraction=fraction, random_state=5,
        ).fit(names, labels)  # fmt: skip
        assert fitted.vectorizer_.letter_case == "title"
        accuracy = fitted.score(names, labels)
        assert accuracy > 0.7
        assert fitted.score([name.upper() for name in names], labels) == accuracy
