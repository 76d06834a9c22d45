"""``npnlp evaluate``: a saved model on a table."""

from __future__ import annotations

import argparse

from npnlp.classifier.building import make_criterion
from npnlp.classifier.evaluation import evaluate
from npnlp.cli.options import (
    add_backend,
    add_save_dir,
    add_surname_csv,
    columns_of,
    saved_classifier,
)
from npnlp.cli.train import metrics_table
from npnlp.errors import InputError
from npnlp.files.plain_json import to_json
from npnlp.text import SPLITS, SurnameDataset, own_table_path, read_table
from npnlp.text.dataset import CLASS_WEIGHTS, require_known_nationalities
from npnlp.text.splits import SPLIT_BY, with_split

HELP = "measure a saved model on a table"
DESCRIPTION = (
    "Loss and scores of a saved model on each split of a table: every row, dropout off. Without a "
    "split column all rows are test rows."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_save_dir(parser)
    add_surname_csv(parser)
    parser.add_argument("--split-by", choices=SPLIT_BY, help="divide the table as npnlp train does")
    parser.add_argument("--class-weights", choices=CLASS_WEIGHTS, default="none",
                        help="of the loss, from the table's train split")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    classifier = saved_classifier(options)
    csv = options.surname_csv or own_table_path()
    frame = read_table(csv, columns_of(options))
    if options.split_by:
        frame = with_split(frame, options.split_by, source=str(csv))
    elif "split" not in frame:
        frame = frame.assign(split="test")
    require_known_nationalities(frame, classifier.vectorizer, str(csv))
    dataset = SurnameDataset(frame, classifier.vectorizer)
    model = classifier.model
    if options.class_weights != "none" and not len(dataset.arrays("train")):
        raise InputError(f"{csv}: no train rows to take class weights from; add some or give none")
    weights = dataset.class_weights(options.class_weights)
    criterion = make_criterion(model, weights)
    found = {
        split: evaluate(model, dataset.arrays(split), criterion)
        for split in SPLITS
        if len(dataset.arrays(split))
    }
    if options.json:
        print(to_json({split: result.metrics for split, result in found.items()}, indent=2))
    else:
        print("\n".join(metrics_table(found)))
    return 0
