"""Nothing is overwritten by accident: not a model, not a table, not a file of names."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.tables import (
    UNDRAWN_FILES,
    check_same_run,
    command,
    environment,
    finished_run,
    npnlp,
    refusal,
    run_main,
    small_rows,
    train_small,
    tree,
    write_table,
)

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory)


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    write_table(tmp_path / "small.csv")
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


OTHERS = {
    "cell": (("--cell", "lstm"), "cell 'elman', this one 'lstm'"),
    "seed": (("--seed", "6"), "seed 5, this one 6"),
    "num_epochs": (("--num-epochs", "2"), "num_epochs 3, this one 2"),
    "patience": (("--early-stopping-criteria", "2"), "early_stopping_criteria 5, this one 2"),
    "resumed": (("--seed", "6", "--resume"), "seed 5, this one 6"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_run_of_other_settings_does_not_replace_a_model(
    copied: Path, name: str, capsys: Capture
) -> None:
    options, words = OTHERS[name]
    before = tree(copied)
    assert train_small(copied, *options) == 2
    error = refusal(capsys.readouterr().err, "npnlp train:", words, "--save-dir")
    assert ("--overwrite" in error) == (name != "resumed")
    assert tree(copied) == before


def test_another_table_does_not_either(copied: Path, capsys: Capture) -> None:
    write_table(copied.parent / "small.csv", small_rows()[:-1])
    before = tree(copied)
    assert train_small(copied) == 2
    refusal(capsys.readouterr().err, "other data", "--overwrite")
    assert tree(copied) == before


def test_a_model_without_a_checkpoint_is_not_replaced(copied: Path, capsys: Capture) -> None:
    for damage in (lambda path: path.write_bytes(b"x"), Path.unlink):
        damage(copied / "last.safetensors")
        before = tree(copied)
        assert train_small(copied) == 2
        refusal(capsys.readouterr().err, "model.safetensors", "not known", "--overwrite")
        assert tree(copied) == before
    assert train_small(copied, "--reload-from-files") == 0


def test_the_same_settings_train_again(copied: Path, finished: Path) -> None:
    assert train_small(copied) == 0
    check_same_run(finished, copied)


def test_the_command_refuses_and_then_overwrites_with_all_that_was_made_of_it(
    copied: Path,
) -> None:
    assert run_main("export", "--save-dir", copied) == 0
    table = copied.parent / "small.csv"
    data = ("--save-dir", copied, "--surname-csv", table)
    assert run_main("gradient-flow", *data) == 0
    before = tree(copied)
    other = ("train", "--quick", "--cell", "lstm", *data, "--rnn-hidden-size", "4",
             "--no-pictures", "--no-gradient-flow")  # fmt: skip
    done = npnlp(*other)
    assert (done.returncode, done.stdout.count(b"\n") > 0) == (2, True)
    refusal(done.stderr.decode(), "model.safetensors", "elman", "lstm", "--overwrite")
    assert tree(copied) == before
    assert run_main(*other, "--overwrite", "--quiet") == 0
    assert set(tree(copied)) == UNDRAWN_FILES
    assert tree(copied)["model.safetensors"] != before["model.safetensors"]


def test_a_run_does_not_replace_its_own_table(tmp_path: Path, capsys: Capture) -> None:
    table = write_table(tmp_path / "history.csv")
    before = tree(tmp_path)
    assert run_main("train", "--surname-csv", table, "--save-dir", tmp_path, "--quiet") == 2
    refusal(capsys.readouterr().err, str(table), "--save-dir")
    assert tree(tmp_path) == before


def test_a_prediction_replaces_neither_its_input_nor_the_model(
    copied: Path, capsys: Capture
) -> None:
    names = copied.parent / "names.txt"
    names.write_text("Ramini\nVamov\n")
    os.link(names, copied.parent / "also.txt")
    model = copied / "model.safetensors"
    before = tree(copied.parent)
    for target, what in ((names, "input"), (copied.parent / "also.txt", "input"), (model, "model"),
                         (copied.parent / "run" / ".." / "names.txt", "input")):  # fmt: skip
        assert run_main("predict", "--save-dir", copied, "-i", names, "-o", target) == 2
        refusal(capsys.readouterr().err, "npnlp predict:", str(target), f"the {what}")
    assert run_main("predict", "--save-dir", copied, "Ramini", "-o", model) == 2
    assert tree(copied.parent) == before


@pytest.mark.parametrize("given", [("-i", "-"), ("-",)], ids=" ".join)
def test_nor_what_is_its_standard_input(copied: Path, given: tuple[str, ...]) -> None:
    names = copied.parent / "names.txt"
    names.write_text("Ramini\nVamov\n")
    with names.open("rb") as file:
        done = subprocess.run(
            command("predict", "--save-dir", copied, *given, "-o", names), env=environment(),
            stdin=file, capture_output=True, check=False, timeout=900,
        )  # fmt: skip
    assert done.returncode == 2
    refusal(done.stderr.decode(), "the input")
    assert names.read_text() == "Ramini\nVamov\n"
