"""``evaluate`` and ``gradient-flow`` say which rows they measure, by the same rule."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import pytest
import safetensors

from npnlp.classifier.classifier import Classifier
from npnlp.text.provenance import TableNote, name_codes
from npnlp.text.rows import Rows
from tests.support.tables import (
    csv_text,
    finished_run,
    frame_of,
    npnlp,
    read_json,
    refusal,
    run_main,
    small_rows,
    train_small,
    write_table,
)

Capture = pytest.CaptureFixture[str]
SPLITS = ("train", "val", "test")


def unsplit(path: Path, seed: int = 0) -> Path:
    """The small table without a column split, its rows in another order."""
    rows = [f"{label},{name}\n" for label, _, name in small_rows()]
    Random(seed).shuffle(rows)
    path.write_text("nationality,surname\n" + "".join(rows), encoding="utf-8", newline="")
    return path


@pytest.fixture(scope="module", params=["nationality", "name"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table without splits; beside it, the same rows in another order."""
    folder = tmp_path_factory.mktemp("measured")
    unsplit(folder / "small.csv")
    by = () if request.param == "nationality" else ("--split-by", request.param)
    assert train_small(folder / "run", "--no-pictures", *by, epochs=2) == 0
    unsplit(folder / "again.csv", seed=1)
    return folder / "run"


def evaluate(run: Path, table: Path, *options: str) -> int:
    return run_main("evaluate", "--save-dir", run, "--surname-csv", table, *options)


def test_the_same_table_is_divided_the_same_way(run: Path, capsys: Capture) -> None:
    metrics = read_json(run / "metrics.json")
    for table in ("small.csv", "again.csv"):
        assert evaluate(run, run.parent / table, "--json") == 0
        printed = capsys.readouterr()
        found = json.loads(printed.out)
        assert set(found) == set(SPLITS)
        for split in SPLITS:
            assert found[split] == pytest.approx(metrics[split], rel=1e-5)
        assert printed.err == ""
    flow = ("gradient-flow", "--save-dir", run, "--no-pictures", "--surname-csv")
    assert run_main(*flow, run.parent / "again.csv") == 0
    rows = metrics["data"]["rows_by_split"]["test"]
    assert capsys.readouterr().out.startswith(f"{rows} test rows; the table that the model was")


@pytest.mark.parametrize("split", [False, True])
def test_another_table_is_all_rows_and_says_how_many_are_known(
    run: Path, tmp_path: Path, split: bool, capsys: Capture
) -> None:
    rows = small_rows()[:40] + [("Italian", "train", f"Ra{n}") for n in range(5)]
    table = tmp_path / "new.csv"
    text = csv_text(rows)
    if not split:
        text = text.replace(",split,", ",part,")
    table.write_text(text, encoding="utf-8")
    trained = Classifier.load(run / "model.safetensors").table
    assert trained is not None
    assert evaluate(run, table) == 0
    note, _, line, *_ = capsys.readouterr().out.splitlines()
    assert note.startswith("Rows: all rows, of another table than the model was trained on;")
    assert line.split()[:2] == ["all", "45"]
    seen = int(note.split("it was trained on ")[1].split(" of their 45 names")[0])
    assert 0 < seen < 40
    assert evaluate(run, table, "--json") == 0
    printed = capsys.readouterr()
    assert set(json.loads(printed.out)) == {"all"}
    refusal(printed.err, "npnlp evaluate: note: all rows", f"on {seen} of their 45 names")
    flow = ("gradient-flow", "--save-dir", run, "--surname-csv", table, "--no-pictures")
    assert run_main(*flow) == 0
    assert capsys.readouterr().out.startswith("45 all rows; all rows, of another table")
    assert run_main(*flow, "--split", "train") == 2
    refusal(capsys.readouterr().err, str(table), "another table", "--split-by")
    assert evaluate(run, table, "--json", "--split-by", "name") == 0
    assert set(json.loads(capsys.readouterr().out)) == set(SPLITS)


def test_the_names_that_it_has_seen_are_those_of_train(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, capsys: Capture
) -> None:
    finished = finished_run(tmp_path_factory)
    held = [row for row in small_rows() if row[1] == "test"]
    train = [row for row in small_rows() if row[1] == "train"]
    table = write_table(tmp_path / "new.csv", [*held, *train[:7], *train[:2]])
    assert evaluate(finished, table) == 0
    assert "it was trained on 7 of their 16 names" in capsys.readouterr().out
    (tmp_path / "run").mkdir()
    shutil.copy(finished / "model.safetensors", tmp_path / "run")
    assert evaluate(tmp_path / "run", table) == 0
    assert "is not known" in capsys.readouterr().out


def test_a_model_of_an_earlier_version_takes_the_column(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, capsys: Capture
) -> None:
    classifier = Classifier.load(finished_run(tmp_path_factory) / "model.safetensors")
    Classifier(classifier.model, classifier.vectorizer).save(tmp_path / "model.safetensors")
    assert Classifier.load(tmp_path / "model.safetensors").table is None
    assert evaluate(tmp_path, write_table(tmp_path / "small.csv"), "--json") == 0
    assert set(json.loads(capsys.readouterr().out)) == set(SPLITS)
    assert evaluate(tmp_path, unsplit(tmp_path / "other.csv"), "--json") == 0
    assert set(json.loads(capsys.readouterr().out)) == {"all"}


def test_the_command_says_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = finished_run(tmp_path_factory)
    done = npnlp("evaluate", "--save-dir", run, "--surname-csv", run.parent / "small.csv")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("Rows: the table that the model was trained on, divided by ")
    assert [line.split()[0] for line in lines[2:5]] == list(SPLITS)
    assert [line.split()[0] for line in lines[-3:]] == list(SPLITS)


def test_the_model_file_has_a_hash_and_no_trace_of_names(run: Path) -> None:
    with safetensors.safe_open(run / "model.safetensors", framework="numpy") as file:
        assert not [name for name in file.keys() if "name" in name]  # noqa: SIM118
        (described,) = file.metadata().values()
    assert set(json.loads(described)["table"]) == {"sha256", "split_by"}
    assert len(described) < 5_000


@pytest.mark.parametrize("value", ["x", [], {}, {"sha256": 3, "split_by": "name"},
                                   {"sha256": "x", "split_by": "magic"}], ids=str)  # fmt: skip
def test_a_note_that_cannot_be_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="table"):
        TableNote.from_dict(value)


def test_the_hash_is_of_the_rows_and_not_of_their_order() -> None:
    frame = frame_of(small_rows())
    note = TableNote.of(Rows.of(frame), None)
    assert note == TableNote.of(Rows.of(frame.sample(frac=1, random_state=1)), "column")
    assert note != TableNote.of(Rows.of(frame.iloc[1:]), None)
    assert note != TableNote.of(Rows.of(frame.drop(columns="split")), "column")
    assert TableNote.of(Rows.of(frame.drop(columns="split")), None).split_by == "nationality"
    assert len(name_codes(["a", "b", "a"])) == 2
