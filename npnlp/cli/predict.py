"""``npnlp predict``: nationalities of names, from a saved model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from npnlp.backend import get_backend
from npnlp.cli.options import Formatter, add_backend, add_save_dir
from npnlp.errors import InputError
from npnlp.training.classifier import Classifier, Prediction


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
    classifier = Classifier.load(
        options.save_dir / options.model_state_file, get_backend(options.backend)
    )
    predictions = classifier.predict(_names(options.names), options.top_k)
    if options.json:
        print(json.dumps([p.to_dict() for p in predictions], indent=2, ensure_ascii=False))
    else:
        print("\n".join(_table(predictions)))
    for prediction in predictions:
        unknown = classifier.unknown_characters(prediction.surname)
        if unknown:
            print(
                f"npnlp predict: note: the model has never seen {' '.join(dict.fromkeys(unknown))}"
                f" of {prediction.surname!r}",
                file=sys.stderr,
            )
    return 0


def _names(given: Sequence[str]) -> list[str]:
    names: list[str] = []
    for name in given:
        if name != "-":
            names.append(name)
            continue
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


def _table(predictions: Sequence[Prediction]) -> list[str]:
    width = max((len(p.surname) for p in predictions), default=0)
    return [
        f"{p.surname:<{min(width, 40)}}  "
        + "  ".join(f"{name} {probability:.3f}" for name, probability in p.top)
        for p in predictions
    ]
