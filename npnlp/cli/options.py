"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from npnlp.backend import BACKEND_NAMES, Backend, get_backend
from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.files.nearest import no_such_file

#: The folder of a run, where no other is given.
RUN = Path("runs/surnames")


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
        "reference runs only the code that is there to be read",
    )  # fmt: skip


def add_save_dir(parser: argparse.ArgumentParser) -> None:
    """``--save-dir`` and ``--model-state-file``."""
    parser.add_argument(
        "--save-dir", "--out", type=Path, default=RUN, metavar="DIR",
        help="the folder of the run",
    )  # fmt: skip
    parser.add_argument(
        "--model-state-file", default="model.safetensors", metavar="FILE",
        help="the best weights, in the folder of the run",
    )  # fmt: skip


def add_surname_csv(parser: argparse._ActionsContainer) -> None:
    """``--surname-csv``."""
    parser.add_argument(
        "--surname-csv", type=Path, metavar="FILE",
        help="a CSV with nationality, surname and optionally split (default: the table that "
        "comes with npnlp)",
    )  # fmt: skip


def saved_classifier(options: argparse.Namespace) -> Classifier:
    """The model in the folder of the run, on the backend that was asked for."""
    backend = get_backend(options.backend)
    return load_saved(options.save_dir / options.model_state_file, backend)


def load_saved(path: Path, backend: Backend | None = None) -> Classifier:
    """The model of a run; raises :class:`InputError` with the way to one where it is missing."""
    if not path.exists():
        train = "npnlp train" + ("" if path.parent == RUN else f" --save-dir {path.parent}")
        raise InputError(
            f"{path}: {no_such_file(path)}; train a model with {train}, or name the folder of a "
            "run with --save-dir"
        )
    return Classifier.load(path, backend)
