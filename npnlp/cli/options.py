"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from npnlp.backend import BACKEND_NAMES, get_backend
from npnlp.classifier.classifier import Classifier
from npnlp.text.columns import Columns


class Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help with defaults, where an option has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def add_backend(parser: argparse.ArgumentParser) -> None:
    """``--backend``."""
    parser.add_argument(
        "--backend", choices=BACKEND_NAMES, default="numpy",
        help="where to compute; numba compiles the loops, auto takes a GPU where one works, "
        "reference runs only the code that is there to be read",
    )  # fmt: skip


def add_save_dir(parser: argparse.ArgumentParser) -> None:
    """``--save-dir`` and ``--model-state-file``."""
    parser.add_argument(
        "--save-dir", "--out", type=Path, default=Path("runs/surnames"), metavar="DIR",
        help="the folder of the run",
    )  # fmt: skip
    parser.add_argument(
        "--model-state-file", default="model.safetensors", metavar="FILE",
        help="the best weights, in the folder of the run",
    )  # fmt: skip


def add_surname_csv(parser: argparse._ActionsContainer) -> None:
    """``--surname-csv``, and what its columns are called."""
    parser.add_argument(
        "--surname-csv", type=Path, metavar="FILE",
        help="a table (CSV, TSV, Parquet; plain or in gzip) with nationality, surname and "
        "optionally split (default: the table that comes with npnlp)",
    )  # fmt: skip
    add_column(parser)
    parser.add_argument(
        "--label-column", metavar="NAME",
        help="the column of labels (default: nationality, or else label, country or class)",
    )  # fmt: skip
    parser.add_argument(
        "--split-column", metavar="NAME",
        help="the column that says train, val or test (default: split, if there)",
    )  # fmt: skip


def add_column(parser: argparse._ActionsContainer) -> None:
    """``--column`` and ``--delimiter``, of a table with names."""
    parser.add_argument(
        "--column", metavar="NAME",
        help="the column of names (default: surname, or else last name, family name or name)",
    )  # fmt: skip
    parser.add_argument(
        "--delimiter", type=_delimiter, metavar="CHARACTER",
        help="between the fields of a table, such as ; or tab (default: comma, semicolon or tab, "
        "by its header)",
    )  # fmt: skip


def _delimiter(text: str) -> str:
    return "\t" if text in ("tab", "\\t") else text


def columns_of(options: argparse.Namespace) -> Columns:
    """The columns that the options name."""
    names = (options.column, options.label_column, options.split_column)
    return Columns(*names, options.delimiter)


def add_pictures(parser: argparse._ActionsContainer) -> None:
    """``--no-pictures``."""
    parser.add_argument(
        "--no-pictures", dest="pictures", action="store_false", help="draw no pictures"
    )


def saved_classifier(options: argparse.Namespace) -> Classifier:
    """The model in the folder of the run, on the backend that was asked for."""
    path = options.save_dir / options.model_state_file
    return Classifier.load(path, get_backend(options.backend))
