"""``npnlp evaluate``: a saved model on a table."""

from __future__ import annotations

import argparse
import sys

from npnlp.classifier.building import make_criterion
from npnlp.classifier.evaluation import evaluate
from npnlp.cli.measured import ALL, RULE, add_split_by, measured
from npnlp.cli.options import (
    add_backend,
    add_save_dir,
    add_surname_csv,
    saved_classifier,
)
from npnlp.cli.outcome import metrics_table
from npnlp.errors import InputError
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
    add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    classifier = saved_classifier(options)
    source = options.surname_csv or own_table_path()
    dataset, splits, said = measured(classifier, options)
    model = classifier.model
    if options.class_weights != "none" and not len(dataset.arrays("train")):
        raise InputError(
            f"{source}: no train rows to take class weights from; add some, say how "
            "to divide it with --split-by, or give none"
        )
    criterion = make_criterion(model, dataset.class_weights(options.class_weights))
    found = {
        name: evaluate(model, dataset.arrays(split), criterion)
        for name, split in splits.items()
        if len(dataset.arrays(split))
    }
    if options.json:
        print(to_json({split: result.metrics for split, result in found.items()}, indent=2))
        if ALL in found:
            print(f"npnlp evaluate: note: {said}", file=sys.stderr)
    else:
        print(f"Rows: {said}")
        print("\n".join(metrics_table(found)))
    return 0
