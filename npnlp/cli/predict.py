"""``npnlp predict``: nationalities of names, from a saved model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from npnlp.classifier.classifier import Prediction
from npnlp.cli.options import add_backend, add_save_dir, saved_classifier
from npnlp.cli.predict_file import (
    csv_header,
    csv_lines,
    described,
    json_lines,
    opened_for,
    predict_file,
    predict_parts,
)
from npnlp.cli.unknown import note_blank, note_unknown
from npnlp.errors import InputError
from npnlp.files.plain_json import to_json
from npnlp.text.name_file import Names, read_names

HELP = "predict the nationality of names"
DESCRIPTION = (
    "Predict the nationality of names with a saved model. Names that are arguments make a table; "
    "a file of any length (--input) makes a CSV with a row a name, in order."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME",
        help="a surname; - reads names from standard input, one a line or a CSV",
    )  # fmt: skip
    parser.add_argument(
        "--input", "-i", metavar="FILE",
        help="names from a file, one a line, or a CSV with a column surname; - is standard input "
        "(default: names as arguments)",
    )  # fmt: skip
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
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--exact", action="store_true",
        help="each name alone: the same bits whatever names stand beside it; slower",
    )  # fmt: skip
    add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    if bool(options.names) == (options.input is not None):
        options.parser.error("give names, or a file of names with --input, and not both")
    for name in options.names:
        if ("." in name or "/" in name) and Path(name).is_file():
            options.parser.error(f"{name} is a file; the names in it are given with --input {name}")
    classifier, blank = saved_classifier(options), options.not_finite == "blank"
    if options.input is None and options.output is None:
        names, exact = _names(options.names), options.exact
        predictions = classifier.predict(names, options.top_k, exact=exact, blank=blank)
        _show(predictions, options.json, exact=exact)
        note_blank([n for n, prediction in enumerate(predictions, 1) if not prediction.top])
        note_unknown(classifier, predictions)
        return 0
    header = csv_header(classifier, options.top_k)
    with opened_for(options.output or "-") as write:
        lines = partial(json_lines if options.json else csv_lines, exact=options.exact)
        if not options.json:
            write(header)
        if options.input is not None:
            predict_file(classifier, options.input, write, options.top_k, lines, blank)
        else:
            names = _names(options.names)
            part = Names(names, range(1, len(names) + 1), 0)
            predict_parts(classifier, [part], "names", write, options.top_k, lines, blank)
    return 0


def _show(predictions: Sequence[Prediction], as_json: bool, *, exact: bool) -> None:
    if as_json:
        utf8 = sys.stdout is not None and sys.stdout.encoding.lower().replace("-", "") == "utf8"
        found = [described(prediction, exact=exact) for prediction in predictions]
        print(to_json(found, indent=2, ascii_only=not utf8))
    else:
        print("\n".join(_table(predictions)))


def _names(given: Sequence[str]) -> list[str]:
    names: list[str] = []
    for name in given:
        if name != "-":
            _require_text(name)
            names.append(name)
            continue
        if sys.stdin is None:
            raise InputError("standard input is closed; give names as arguments")
        for part in read_names(sys.stdin.buffer, "standard input"):
            names += part.names
    return names


def _require_text(name: str) -> None:
    """A byte that is not UTF-8 reaches us as half of a surrogate pair, which is no character."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"name {name!r} is not UTF-8 text") from error


def _table(predictions: Sequence[Prediction]) -> list[str]:
    width = max((len(p.surname) for p in predictions), default=0)
    return [
        f"{p.surname:<{min(width, 40)}}  "
        + "  ".join(f"{name} {probability:.3f}" for name, probability in p.top)
        for p in predictions
    ]
