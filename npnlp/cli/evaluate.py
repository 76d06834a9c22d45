"""``npnlp evaluate``: a saved model on a table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from npnlp.classifier.building import make_criterion
from npnlp.classifier.evaluation import evaluate
from npnlp.classifier.inspection import RELIABILITY, probability_scores, reliability_rows
from npnlp.cli.measured import ALL, RULE, add_split_by, measured
from npnlp.cli.options import (
    add_backend,
    add_save_dir,
    add_surname_csv,
    saved_or_own,
)
from npnlp.cli.outcome import metrics_table, probability_table
from npnlp.cli.script import loaded_plots
from npnlp.errors import InputError
from npnlp.files import write_table
from npnlp.files.pictures import format_of
from npnlp.files.plain_json import to_json
from npnlp.text import own_table_path
from npnlp.text.dataset import CLASS_WEIGHTS

HELP = "measure a saved model on a table"
DESCRIPTION = (
    f"Loss and scores of a saved model on each split of a table: every row, dropout off. {RULE}"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_save_dir(parser)
    add_surname_csv(parser)
    add_split_by(parser)
    parser.add_argument("--class-weights", choices=CLASS_WEIGHTS, default="none",
                        help="of the loss, from the table's train split")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--reliability", type=Path, metavar="FILE",
                        help="draw how often answers are right against how probable they are, of "
                        "the last split, into a .png, .svg or .pdf; the numbers go into a CSV "
                        "beside it")  # fmt: skip
    add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    if options.reliability:
        format_of(options.reliability)
    classifier = saved_or_own(options, "npnlp evaluate")
    source = options.surname_csv or own_table_path()
    dataset, splits, said = measured(classifier, options)
    model = classifier.model
    if options.class_weights != "none" and not len(dataset.arrays("train")):
        raise InputError(
            f"{source}: no train rows to take class weights from; add some, say how "
            "to divide it with --split-by, or give none"
        )
    criterion = make_criterion(model, dataset.class_weights(options.class_weights))
    factors = classifier.temperature, 1.0
    found = {
        name: evaluate(model, dataset.arrays(split), criterion, factors)
        for name, split in splits.items()
        if len(dataset.arrays(split))
    }
    before, after = ({name: each.outcomes[n] for name, each in found.items()} for n in (0, 1))
    if options.json:
        scores = {name: found[name].metrics | probability_scores(after[name]) for name in found}
        print(to_json(scores, indent=2))
        if ALL in found:
            print(f"npnlp evaluate: note: {said}", file=sys.stderr)
    else:
        print(f"Rows: {said}")
        print("\n".join(metrics_table(found)))
        print("\n".join(probability_table(before, after, classifier.temperature)))
    if options.reliability and found:
        last = list(found)[-1]
        table = options.reliability.with_suffix(".csv")
        write_table(table, RELIABILITY, reliability_rows(before[last], after[last]))
        if plots := loaded_plots("npnlp evaluate"):
            plots.reliability(table, options.reliability)
    return 0
