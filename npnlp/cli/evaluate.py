"""``npnlp evaluate``: a saved model on a table."""

from __future__ import annotations

import argparse
import json
from typing import Any

from npnlp.classifier.evaluation import evaluate
from npnlp.cli.options import (
    Formatter,
    add_backend,
    add_save_dir,
    add_surname_csv,
    saved_classifier,
)
from npnlp.cli.train import metrics_table
from npnlp.errors import InputError
from npnlp.layers import SoftmaxCrossEntropy
from npnlp.text import SPLITS, SurnameDataset, own_table_path, read_table
from npnlp.text.dataset import CLASS_WEIGHTS, require_known_nationalities
from npnlp.text.splits import SPLIT_BY, with_split


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "evaluate",
        formatter_class=Formatter,
        help="measure a saved model on a table",
        description="Loss and scores of a saved model on each split of a table: every row, dropout "
        "off. Without a split column all rows are test rows.",
    )
    parser.set_defaults(run=run)
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
    frame = read_table(csv)
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
    criterion = SoftmaxCrossEntropy(
        None if weights is None else model.backend.asarray(weights, dtype=model.dtype),
        backend=model.backend,
        dtype=model.dtype,
    )
    found = {
        split: evaluate(model, dataset.arrays(split), criterion)
        for split in SPLITS
        if len(dataset.arrays(split))
    }
    if options.json:
        print(json.dumps({split: result.metrics for split, result in found.items()}, indent=2))
    else:
        print("\n".join(metrics_table(found)))
    return 0
