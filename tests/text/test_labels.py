"""Labels are labels: what they are called, and which of them look alike."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from npnlp.text import own_table_path, read_table
from npnlp.text.audit import audit, audit_lines
from npnlp.text.labels import NATIONALITIES, alike, label_word
from npnlp.text.rows import Rows
from tests.support.tables import (
    SMALL,
    UNDRAWN_FILES,
    csv_text,
    finished_run,
    frame_of,
    run_main,
    small_rows,
    train_small,
)

SEXES = ("m", "f", "x")


def test_the_nationalities_are_those_of_the_own_table() -> None:
    frame = read_table(own_table_path())
    assert set(NATIONALITIES) == set(frame["nationality"])
    assert label_word(Rows.of(frame)) == "nationality"


def test_labels_of_another_kind_are_classes(tmp_path: Path) -> None:
    assert label_word(Rows.of(frame_of(small_rows(SEXES)))) == "class"
    path = tmp_path / "t.csv"
    for name, word in (("Country", "nationality"), ("language", "class"), ("Label", "class")):
        path.write_text(csv_text(small_rows()).replace("nationality", name, 1), encoding="utf-8")
        named = {"language": "--label-column"}.get(name)
        if named:
            with pytest.raises(ValueError, match=named):
                read_table(path)
            path.write_text(path.read_text().replace(name, "class"), encoding="utf-8")
        frame = read_table(path)
        assert label_word(Rows.of(frame.assign(split="test"))) == word


@pytest.mark.parametrize("labels", [("f", "m", "x"), ("Label one", "Label two", "Label three")])
def test_a_table_of_other_labels_speaks_of_no_nationalities(
    tmp_path: Path, labels: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = small_rows(labels)
    table, folder = tmp_path / "people.csv", tmp_path / "run"
    table.write_text(csv_text(rows).replace("nationality", "label", 1), encoding="utf-8")
    assert run_main("train", "--surname-csv", table, "--save-dir", folder, "--num-epochs", "1",
                    "--no-pictures", *SMALL) == 0  # fmt: skip
    assert {path.name for path in folder.iterdir()} == UNDRAWN_FILES
    printed = capsys.readouterr().out
    for text in (printed, (folder / "MODEL_CARD.md").read_text(encoding="utf-8"),
                 (folder / "confusion_matrix.csv").read_text(encoding="utf-8")):  # fmt: skip
        assert "nationalit" not in text.lower()
        assert "surname" not in text.replace("SurnameClassifier", "").lower()
    tests = [name for _, split, name in rows if split == "test"]
    samples = [line for line in printed.splitlines() if "(in the table: " in line]
    assert len(samples) == 3
    for line in samples:
        name = line.split()[0]
        assert name in tests
        (label,) = [label for label, _, of_row in rows if of_row == name]
        assert line.endswith(f"(in the table: {label})")


def test_gradient_flow_without_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train_small(folder, "--no-pictures", epochs=1) == 0
    data = ("--save-dir", folder, "--surname-csv", tmp_path / "small.csv")
    assert run_main("gradient-flow", *data, "--no-pictures") == 0
    assert (folder / "gradient_flow_model.csv").exists()
    assert list(folder.glob("*.png")) == []


@pytest.mark.parametrize(
    "others",
    [("italian",), ("Italian\u200b",), ("Italian\ufeff", "ITALIAN"), ("\u0049tal\u00adian",),
     ("Ital\u200dian",)],
    ids=ascii,
)  # fmt: skip
def test_labels_that_look_alike_are_named(others: tuple[str, ...]) -> None:
    rows = small_rows() + [(other, "train", "Verdi") for other in others]
    found = audit(Rows.of(frame_of(rows)))
    assert [set(group) for group in found["labels_alike"]] == [{"Italian", *others}]
    (line,) = [line for line in audit_lines(found) if "look alike" in line]
    for label in ("Italian", *others):
        assert (repr(label) if repr(label).isprintable() else ascii(label)) in line


def test_labels_that_do_not_are_not() -> None:
    assert alike(["Italian", "Italy", "\u00e9", "e", "South Korean", "North Korean"]) == []
    assert alike(["South Korean", "South\u00a0Korean", "south  korean"]) != []
    found = audit(Rows.of(frame_of(small_rows())))
    assert found["labels_alike"] == []
    assert not any("look alike" in line for line in audit_lines(found))


def test_a_saved_run_of_nationalities_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = finished_run(tmp_path_factory)
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "does not tell a person's nationality" in card
    assert "### By nationality, on test" in card
    matrix = pd.read_csv(folder / "confusion_matrix.csv")
    assert next(iter(matrix)) == "true nationality"
