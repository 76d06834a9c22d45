"""Toy tables: a few names of each class are enough to train on, or the message says what lacks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from npnlp.errors import InputError
from npnlp.text import read_table
from npnlp.text.splits import FRACTIONS
from tests.support.tables import divided, npnlp, read_json, refusal, train_small

LETTERS = "BCDFGKLMNP"
WAYS = ("nationality", "name")


def toy(path: Path, classes: int, names: int) -> Path:
    rows = [f"Class{k},{LETTERS[k]}a{LETTERS[n]}o\n" for k in range(classes) for n in range(names)]
    path.write_text("nationality,surname\n" + "".join(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize(
    ("classes", "names"), [(10, 3), (10, 2), (2, 2), (2, 3), (3, 4), (10, 5), (2, 10)]
)
def test_every_split_gets_rows_and_train_every_class(
    tmp_path: Path, by: str, classes: int, names: int
) -> None:
    frame = divided(read_table(toy(tmp_path / "toy.csv", classes, names)), by)
    sizes = Counter(frame["split"])
    assert set(sizes) == set(FRACTIONS)
    assert sizes["train"] >= len(frame) / 2
    assert frame[frame["split"] == "train"]["nationality"].nunique() == classes
    backwards = divided(frame.drop(columns="split")[::-1], by)
    assert list(frame["split"]) == list(backwards["split"])[::-1]  # whatever the order of rows


@pytest.mark.parametrize("by", WAYS)
def test_a_class_of_one_name_stays_in_train(tmp_path: Path, by: str) -> None:
    path = toy(tmp_path / "toy.csv", 3, 3)
    path.write_text(path.read_text("utf-8") + "Rare,Xu\n", "utf-8")
    frame = divided(read_table(path), by)
    assert set(frame["split"]) == set(FRACTIONS)
    assert list(frame[frame["nationality"] == "Rare"]["split"]) == ["train"]


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("classes", [2, 10])
def test_what_is_missing_is_what_the_user_can_add(tmp_path: Path, by: str, classes: int) -> None:
    table = read_table(toy(tmp_path / "toy.csv", classes, 1))
    with pytest.raises(InputError) as refused:
        divided(table, by, source="toy.csv")
    message = str(refused.value)
    assert message.startswith(f"toy.csv: {classes} rows of {classes} nationalities are too few")
    assert "add rows" in message
    assert "column split: no rows" not in message


def test_the_command_trains_on_ten_classes_of_three_names(tmp_path: Path) -> None:
    table = toy(tmp_path / "toy.csv", 10, 3)
    done = npnlp("train", "--surname-csv", table, "--save-dir", tmp_path / "run", "--num-epochs",
                 "2", "--no-gradient-flow")  # fmt: skip
    assert done.returncode == 0, done.stderr
    out = done.stdout.decode()
    assert "with fewer than 5 names  10: Class0, Class1" in out
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["data"]["rows_by_split"] == {"train": 22, "val": 4, "test": 4}
    assert metrics["training"]["batch_size"] == 22
    assert metrics["data"]["classes_with_few_names"] == {f"Class{k}": 3 for k in range(10)}
    done = npnlp("train", "--surname-csv", toy(tmp_path / "two.csv", 2, 1), "--save-dir",
                 tmp_path / "none")  # fmt: skip
    assert done.returncode == 2
    refusal(done.stderr.decode(), "npnlp train:", "2 rows of 2 nationalities are too few")


def test_a_run_from_before_the_batch_was_bounded_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from npnlp.files.tensors import load_tensors, save_tensors
    from npnlp.runs.checkpoint import KIND

    folder, size = tmp_path / "run", ("--batch-size", "999")
    assert train_small(folder, *size, epochs=2) == 0
    tensors, values = load_tensors(folder / "last.safetensors", KIND)
    values["settings"]["batch_size"] = 999
    save_tensors(folder / "last.safetensors", KIND, tensors, values)
    assert train_small(folder, *size, "--resume", epochs=3) == 0
    assert train_small(folder, "--batch-size", "7", "--resume", epochs=4) == 2
    refusal(capsys.readouterr().err, "batch_size 42, this one 7")
