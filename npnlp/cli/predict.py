"""``npnlp predict``: nationalities of names, from a saved model."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from os.path import samestat
from pathlib import Path

from npnlp.classifier.classifier import Classifier
from npnlp.classifier.decision import Decision
from npnlp.classifier.prediction import Prediction
from npnlp.cli.answers import Answers, described
from npnlp.cli.decision_options import add_decision, decision_of
from npnlp.cli.options import (
    add_backend,
    add_column,
    add_save_dir,
    require_utf8,
    saved_or_own,
)
from npnlp.cli.population import add_prior, for_population
from npnlp.cli.unknown import note_blank, note_unknown
from npnlp.errors import InputError
from npnlp.files.plain_json import to_json
from npnlp.text.columns import ANY, Columns
from npnlp.text.name_file import ON_EMPTY, NameFile, Names, read_names

HELP = "predict the nationality of names"
DESCRIPTION = (
    "Predict the nationality of names with a saved model. Names that are arguments make a table; "
    "a file of any length (--input) makes a CSV with a row a name, in order. Of a table (CSV, TSV, "
    "Parquet; plain or in gzip) all columns are kept, and the prediction comes behind them."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME",
        help="a surname; - reads names from standard input, one a line or a CSV",
    )  # fmt: skip
    parser.add_argument(
        "--input", "-i", metavar="FILE",
        help="names from a file, one a line, or a table with a column surname; - is standard input "
        "(default: names as arguments)",
    )  # fmt: skip
    add_column(parser)
    parser.add_argument(
        "--output", "-o", metavar="FILE",
        help="a CSV of predictions, or with --json an object a line; there is a file at the end or "
        "none; - is standard output (default: -, where there is an --input)",
    )  # fmt: skip
    add_save_dir(parser)
    parser.add_argument("--top-k", type=int, default=1, metavar="K", help="how many to show")
    parser.add_argument(
        "--not-finite", choices=("error", "blank"), default="error",
        help="a name for which the model's numbers are not finite ends the command, or its fields "
        "are empty (null in JSON)",
    )  # fmt: skip
    parser.add_argument(
        "--on-empty", choices=ON_EMPTY, default="error",
        help="a blank name above the last one ends the command, has no row, or has one with empty "
        "fields (null in JSON)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--exact", action="store_true",
        help="each name alone: the same bits whatever names stand beside it; slower",
    )  # fmt: skip
    add_decision(parser)
    add_prior(parser)
    add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    if bool(options.names) == (options.input is not None):
        options.parser.error("give names, or a file of names with --input, and not both")
    for name in options.names:
        if ("." in name or "/" in name) and Path(name).is_file():
            options.parser.error(f"{name} is a file; the names in it are given with --input {name}")
    _require_other_output(options)
    columns = Columns(surname=options.column, delimiter=options.delimiter)
    if columns != ANY and options.input is None:
        raise InputError("--column and --delimiter are those of a table; give one with --input")
    decision = decision_of(options)
    classifier, blank = saved_or_own(options, "npnlp predict"), options.not_finite == "blank"
    classifier = for_population(classifier, options, columns)
    decision.least(classifier.calibration)  # what cannot be found is said before anything is read
    if options.input is None and options.output is None:
        predictions = _predictions(classifier, options, decision)
        _show(predictions, options.json, exact=options.exact)
        without = [
            n for n, p in enumerate(predictions, 1)
            if not p.top and not p.reason and p.surname.strip()
        ]  # fmt: skip
        note_blank(without)
        note_unknown(classifier, predictions)
        return 0
    from npnlp.cli.predict_file import opened_for, predict_file, predict_parts  # a table needs none

    answers = Answers(options.top_k, options.json, blank, options.exact, decision)
    with opened_for(options.output or "-") as write:
        if options.input is not None:
            predict_file(classifier, options.input, write, answers, columns, options.on_empty)
        else:
            names = _names(options.names, options.on_empty)
            blanks = not all(map(str.strip, names))
            part = Names(names, range(1, len(names) + 1), 0, None, blanks)
            predict_parts(classifier, NameFile("names", iter([part])), write, answers)
    return 0


def _require_other_output(options: argparse.Namespace) -> None:
    """Raise :class:`InputError` where the output would replace what is read."""
    if options.output in (None, "-") or not Path(options.output).is_file():
        return
    output = Path(options.output).stat()
    files = {"the model": options.save_dir / options.model_state_file}
    if options.input not in (None, "-"):
        files["the input"] = Path(options.input)
    found = [
        what for what, path in files.items() if path.exists() and samestat(path.stat(), output)
    ]
    if "-" in (options.input, *options.names) and sys.stdin is not None:
        with contextlib.suppress(OSError):  # one that is no file
            if samestat(os.fstat(sys.stdin.fileno()), output):
                found.append("the input")
    if found:
        raise InputError(f"output {options.output} is {found[0]}, too; choose another")


def _predictions(
    classifier: Classifier, options: argparse.Namespace, decision: Decision
) -> list[Prediction]:
    """Those of names that are arguments; with ``--on-empty blank``, blank ones have none."""
    names, blank = _names(options.names, options.on_empty), options.not_finite == "blank"
    full = [name for name in names if name.strip()]
    made = iter(
        classifier.predict(full, options.top_k, exact=options.exact, blank=blank, decision=decision)
    )
    labels = None if decision.sets is None else ()
    return [next(made) if name.strip() else Prediction(name, (), labels=labels) for name in names]


def _show(predictions: Sequence[Prediction], as_json: bool, *, exact: bool) -> None:
    if as_json:
        utf8 = sys.stdout is not None and sys.stdout.encoding.lower().replace("-", "") == "utf8"
        found = [described(prediction, exact=exact) for prediction in predictions]
        print(to_json(found, indent=2, ascii_only=not utf8))
    else:
        print("\n".join(_table(predictions)))


def _names(given: Sequence[str], on_empty: str) -> list[str]:
    names: list[str] = []
    for name in given:
        if name != "-":
            require_utf8(name)
            if not name.strip() and on_empty == "error":
                raise InputError(
                    f"name {len(names) + 1} is empty; give at least one character, or choose "
                    "--on-empty skip or blank"
                )
            if name.strip() or on_empty == "blank":
                names.append(name)
            continue
        if sys.stdin is None:
            raise InputError("standard input is closed; give names as arguments")
        for part in read_names(sys.stdin.buffer, "standard input", ANY, on_empty).parts:
            names += part.names
    return names


def _table(predictions: Sequence[Prediction]) -> list[str]:
    width = max((len(p.surname) for p in predictions), default=0)
    return [
        f"{p.surname:<{min(width, 40)}}  "
        + "  ".join(f"{name} {probability:.3f}" for name, probability in p.top)
        + (f"no answer: {p.reason}" if p.reason else "")
        + ("" if p.labels is None else f"  {{{', '.join(p.labels)}}}")
        for p in predictions
    ]
