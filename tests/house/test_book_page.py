"""What docs/book.md says plays a part of the book's notebook is there, with that line."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from npnlp.cli.commands import read_options
from npnlp.training.config import TrainingConfig

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/book.md").read_text(encoding="utf-8")
#: A row: the book's name, ours with a link to its file, its line, and what is different.
ROW = re.compile(
    r"^\| (?P<book>.+?) \| \[`(?P<name>[\w.]+)`\]\(\.\./(?P<file>\S+?)\)<br>`(?P<line>.+?)` "
    r"\| (?P<different>.+) \|$",
    flags=re.MULTILINE,
)
ROWS = [row.groupdict() for row in ROW.finditer(PAGE)]
OPTIONS = re.findall(r"^\| `(\w+)`(?:, ([\d.]+))? \| `(--[\w-]+)`", PAGE, flags=re.MULTILINE)
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['book']} {row['name']}")


def named(name: str) -> Any:
    """What a dotted name stands for: as much of it as possible is a module."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"nothing is called {name}")


def has_line(source: str, line: str) -> bool:
    """Whether a whole line of ``source`` is ``line``, but for where it begins and a comment."""
    lines = (text.strip() for text in source.split("\n"))
    return any(text == line or text.startswith(f"{line}  #") for text in lines)


def wrong_with(row: dict[str, str]) -> str:
    """What is not so in a row; empty where all of it is."""
    try:
        found = named(row["name"])
    except AttributeError:
        return f"{row['name']} is not there"
    path = ROOT / row["file"]
    if inspect.getsourcefile(inspect.unwrap(found)) != str(path):
        return f"{row['name']} does not stand in {row['file']}"
    if not has_line(inspect.getsource(found), row["line"]):
        return f"{row['name']} has no line {row['line']}"
    return ""


@each_row
def test_it_is_there_with_its_line(row: dict[str, str]) -> None:
    assert not wrong_with(row)


def test_every_row_of_three_columns_and_more_is_looked_at() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "](../npnlp/" in line]
    of_data_card = [line for line in rows if line.startswith("| `surname_csv`")]
    assert len(ROWS) == len(rows) - len(of_data_card) > 20


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"name": "npnlp.text.Vocabulari"}, "is not there"),
        ({"file": "npnlp/text/table.py"}, "does not stand in"),
        ({"line": "self._token_to_idx[token] = 0"}, "has no line"),
        ({"name": "npnlp.text.SequenceVocabulary"}, "has no line"),
    ],
)
def test_what_is_wrong_would_be_found(changed: dict[str, str], says: str) -> None:
    row = next(row for row in ROWS if row["book"] == "`Vocabulary`")
    assert not wrong_with(row)
    assert says in wrong_with(row | changed)


def test_the_books_names_are_all_on_the_page() -> None:
    for name in (
        "ElmanRNN", "column_gather", "SurnameVectorizer", "SequenceVocabulary", "Vocabulary",
        "SurnameDataset", "SurnameClassifier", "generate_batches", "compute_accuracy",
        "make_train_state", "update_train_state", "set_seed_everywhere", "predict_nationality",
    ):  # fmt: skip
        assert re.search(rf"`{name}\b", PAGE), name


def test_the_options_are_there_with_the_books_values() -> None:
    options = vars(read_options(["train"]))
    assert len(OPTIONS) > 10
    for name, value, option in OPTIONS:
        assert option[2:].replace("-", "_") in options
        if value:
            assert option == "--" + name.replace("_", "-")
            assert float(options[name]) == float(value)
    assert options["num_epochs"] == TrainingConfig().num_epochs
