"""``npnlp predict``: nationalities of names, from a saved model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from npnlp.cli.options import Formatter, add_backend, add_save_dir, saved_classifier
from npnlp.cli.script import one_line
from npnlp.errors import InputError
from npnlp.training.classifier import Prediction


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "predict",
        formatter_class=Formatter,
        help="predict the nationality of names",
        description="Predict the nationality of names with a saved model.",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "names", nargs="+", metavar="NAME",
        help="a surname; - reads names from standard input, one a line",
    )  # fmt: skip
    add_save_dir(parser)
    parser.add_argument("--top-k", type=int, default=1, metavar="K", help="how many to show")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    classifier = saved_classifier(options)
    predictions = classifier.predict(_names(options.names), options.top_k)
    if options.json:
        utf8 = sys.stdout is not None and sys.stdout.encoding.lower().replace("-", "") == "utf8"
        described = [prediction.to_dict() for prediction in predictions]
        print(json.dumps(described, indent=2, ensure_ascii=not utf8))
    else:
        print("\n".join(_table(predictions)))
    for prediction in predictions:
        unknown = dict.fromkeys(classifier.unknown_characters(prediction.surname))
        if unknown:
            seen = " ".join(shown(character) for character in list(unknown)[:20])
            note = f"the model has never seen {seen} of {shown(prediction.surname)}"
            print(f"npnlp predict: note: {one_line(note)}", file=sys.stderr)
    return 0


def shown(text: str) -> str:
    """The text for a note: its first forty characters, control characters escaped."""
    short = text if len(text) <= 40 else f"{text[:40]}..."
    return short if short.isprintable() else repr(short)


def _names(given: Sequence[str]) -> list[str]:
    names: list[str] = []
    for name in given:
        if name != "-":
            _require_text(name)
            names.append(name)
            continue
        if sys.stdin is None:
            raise InputError("standard input is closed; give names as arguments")
        try:
            content = sys.stdin.buffer.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            row = error.object.count(b"\n", 0, error.start) + 1
            raise InputError(f"standard input: row {row}: not UTF-8") from error
        lines = content.splitlines()
        for row, line in enumerate(lines, start=1):
            if not line.strip():
                raise InputError(f"standard input: row {row}: empty; give one name a line")
        names += lines
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
