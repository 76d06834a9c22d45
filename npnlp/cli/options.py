"""Options that several commands share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from npnlp.backend import BACKEND_NAMES, Backend, get_backend
from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.files.nearest import no_such_file
from npnlp.text.columns import Columns

#: The folder of a run, where no other is given.
RUN = Path("runs/surnames")
#: The file of its model.
MODEL = "model.safetensors"


class Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help with defaults, where an option has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        help_text = action.help or ""
        given = action.default is not None and action.default is not False
        if not given or "(default: " in help_text:
            return action.help
        return super()._get_help_string(action)


def add_backend(parser: argparse.ArgumentParser) -> None:
    """``--backend``."""
    parser.add_argument(
        "--backend", choices=BACKEND_NAMES, default="numpy",
        help="where to compute; numba compiles the loops, auto takes a GPU where one works, "
        "or numba where training is long enough for its start, "
        "reference runs only the code that is there to be read",
    )  # fmt: skip


def add_save_dir(parser: argparse.ArgumentParser) -> None:
    """``--save-dir`` and ``--model-state-file``."""
    parser.add_argument(
        "--save-dir", "--out", type=Path, default=RUN, metavar="DIR",
        help="the folder of the run",
    )  # fmt: skip
    parser.add_argument(
        "--model-state-file", default=MODEL, metavar="FILE",
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


def require_utf8(name: str) -> None:
    """A byte that is not UTF-8 reaches us as half of a surrogate pair, which is no character."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"name {name!r} is not UTF-8 text") from error


def saved_classifier(options: argparse.Namespace) -> Classifier:
    """The model in the folder of the run, on the backend that was asked for."""
    backend = get_backend(options.backend)
    return load_saved(options.save_dir / options.model_state_file, backend)


def saved_or_own(options: argparse.Namespace, command: str) -> Classifier:
    """:func:`saved_classifier`; where no folder was named, and there is none, npnlp's own model.

    A note says which one it is.
    """
    path = options.save_dir / options.model_state_file
    if path != RUN / MODEL or path.exists():
        return saved_classifier(options)
    print(
        f"{command}: note: {path} is not there; this is the model that comes with npnlp, trained "
        "on its own table (npnlp train makes another)",
        file=sys.stderr,
    )
    return Classifier.load(backend=get_backend(options.backend))


def load_saved(path: Path, backend: Backend | None = None) -> Classifier:
    """The model of a run; raises :class:`InputError` with the way to one where it is missing."""
    if not path.exists():
        train = "npnlp train" + ("" if path.parent == RUN else f" --save-dir {path.parent}")
        raise InputError(
            f"{path}: {no_such_file(path)}; train a model with {train}, or name the folder of a "
            "run with --save-dir"
        )
    return Classifier.load(path, backend)
