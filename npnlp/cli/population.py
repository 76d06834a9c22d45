"""``npnlp predict --prior``: a model for a population with other shares of classes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from npnlp.classifier.classifier import Classifier
from npnlp.cli.failure import one_line
from npnlp.errors import InputError
from npnlp.text.columns import Columns
from npnlp.text.name_file import read_names

#: In the place of a file: find the shares from the names themselves.
ESTIMATE = "estimate"
#: At most twice as many names are kept to estimate shares from; of more, evenly spaced ones.
MOST = 50_000
#: So many shares are named.
SHOWN = 3


def add_prior(parser: argparse.ArgumentParser) -> None:
    """``--prior``."""
    parser.add_argument(
        "--prior", metavar="FILE",
        help="probabilities for a population with other shares of classes: a CSV with a label and "
        f"a share in each row, or the word {ESTIMATE}, to find them from the names (default: the "
        "shares of training)",
    )  # fmt: skip


def for_population(
    classifier: Classifier, options: argparse.Namespace, columns: Columns
) -> Classifier:
    """The classifier for the population that the options name, with a note on what it assumes."""
    if options.prior is None:
        return classifier
    from npnlp.classifier.prior import estimated_shares, for_shares, read_shares

    for name in ("precision", "sets"):
        if getattr(options, name) is not None:
            raise InputError(
                f"--{name} was found for the shares of training; leave it or --prior out, or give "
                "--min-probability"
            )
    if options.prior == ESTIMATE:
        names = _sampled(options, columns)
        count = len(names) - len(classifier.unread(names))
        if not count:
            raise InputError("the model knows no character of the names to estimate shares from")
        shares = estimated_shares(classifier, names)
        source = f"estimated from {count:,} name{'s' if count > 1 else ''}"
    else:
        shares, source = read_shares(options.prior), f"those of {options.prior}"
    try:
        made, total = for_shares(classifier, shares), sum(shares.values())
    except InputError as error:
        raise InputError(f"--prior {options.prior}: {error}") from error
    largest = sorted(shares, key=lambda label: -shares[label])[:SHOWN]
    listed = ", ".join(f"{label} {shares[label] / total:.3f}" for label in largest)
    _note(
        f"the shares of classes are {source} ({listed}, ...); it is assumed that the names within "
        "each class are like those of training"
    )
    return made


def _sampled(options: argparse.Namespace, columns: Columns) -> list[str]:
    """The names, or of many every second, fourth, ...; raises :class:`InputError` for a pipe."""
    if options.input is None:
        found = [name for name in options.names if name != "-" and name.strip()]
        if "-" in options.names or not found:
            raise InputError(f"--prior {ESTIMATE} reads the names twice; give them with --input")
        return found
    if options.input == "-" or not Path(options.input).is_file():
        raise InputError(f"--prior {ESTIMATE} reads the names twice; give a file, no pipe")
    kept: list[str] = []
    step = place = 1
    with Path(options.input).open("rb") as file:
        for part in read_names(file, options.input, columns, options.on_empty).parts:
            for name in part.names:
                place += 1
                if place % step == 0 and name.strip():
                    kept.append(name)
            while len(kept) > 2 * MOST:
                kept, step = kept[::2], 2 * step
    if not kept:
        raise InputError(f"{options.input}: no names to estimate shares from")
    return kept


def _note(text: str) -> None:
    print(f"npnlp predict: note: {one_line(text)}", file=sys.stderr)
