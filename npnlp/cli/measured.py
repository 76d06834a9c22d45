"""The rows that a saved model is measured on: the same rule for all commands that measure."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from npnlp.classifier.classifier import Classifier
from npnlp.cli.options import columns_of
from npnlp.text import SPLITS, SurnameDataset, own_table_path
from npnlp.text.dataset import require_known_nationalities
from npnlp.text.provenance import TableNote, name_codes
from npnlp.text.rows import Coded, Rows
from npnlp.text.splits import SPLIT_BY, with_split
from npnlp.text.table import read_rows

#: What rows are called that are of no split of the model's.
ALL = "all"
RULE = (
    "The table that the model was trained on is divided as it was then; of another table all rows "
    "are measured, unless --split-by says how to divide it."
)


def add_split_by(parser: argparse.ArgumentParser) -> None:
    """``--split-by``, of a table to measure on."""
    parser.add_argument("--split-by", choices=SPLIT_BY, help="divide the table as npnlp train does")


def measured(
    classifier: Classifier, options: argparse.Namespace
) -> tuple[SurnameDataset, dict[str, str], str]:
    """The table, by what they are called the splits to measure, and a line on what they are.

    ``{"all": "test"}`` where all rows are measured: the dataset has them as its test split. A model
    of an earlier version does not know its table; a column ``split`` is then taken for its own.
    """
    csv = options.surname_csv or own_table_path()
    rows, table, whole = read_rows(csv, columns_of(options)), classifier.table, False
    same = table is not None and table.is_of(rows)
    if options.split_by:
        rows = with_split(rows, options.split_by, source=str(csv))
        said = f"divided by {options.split_by}, as asked"
    elif table is not None and same:
        rows = table.divided(rows, str(csv))
        said = f"the table that the model was trained on, divided by {table.split_by} as then"
    elif table is None and rows.splits is not None:
        said = "by the column split; which rows the model was trained on is not known"
    else:
        splits = Coded(np.zeros(len(rows), dtype=np.uint8), ["test"])
        rows, whole = replace(rows, splits=splits), True
        said = "all rows; which of them the model was trained on is not known"
        if table is not None:
            seen = _seen(rows, table, options)
            said = f"all rows, of another table than the model was trained on; {seen}"
    require_known_nationalities(rows, classifier.vectorizer, str(csv))
    dataset = SurnameDataset(rows, classifier.vectorizer)
    return dataset, {ALL: "test"} if whole else {name: name for name in SPLITS}, said


def _seen(rows: Rows, table: TableNote, options: argparse.Namespace) -> str:
    """How many names of a table the model was trained on, from the checkpoint beside it."""
    from npnlp.runs.checkpoint import trained_names  # with the trainer: only where it is needed

    path: Path = options.save_dir / "last.safetensors"
    trained = trained_names(path, table)
    if trained is None:
        return f"which of them it was trained on is not known, without its {path}"
    names = name_codes(rows.different(np.arange(len(rows))))
    seen = int((trained.searchsorted(names, "right") > trained.searchsorted(names)).sum())
    return f"it was trained on {seen:,} of their {len(names):,} names"
