"""What class weights buy and cost: the classifier with and without them, over several seeds.

Weighting every class by the inverse of its size makes the rare ones count as much as the frequent
ones: balanced accuracy rises and plain accuracy falls. All test rows count, dropout is off.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

from npnlp import plots
from npnlp.backend import get_backend
from npnlp.cli.pictures import add_format, output_of
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.files import write_csv
from npnlp.runs.run import Run
from npnlp.runs.seeds import Shown
from npnlp.runs.side_by_side import Place, calls_of
from npnlp.text import SurnameDataset
from npnlp.training.config import TrainingConfig

KINDS = ("inverse", "none")


def one_run(
    dataset: SurnameDataset, kind: str, seed: int, epochs: int, out: Path, place: Place
) -> dict[str, Any]:
    """Train as ``npnlp train --class-weights KIND --seed SEED`` does; the test scores."""
    config = TrainingConfig(num_epochs=epochs, seed=seed, class_weights=kind)
    run = Run.make(dataset, config, {}, get_backend("numpy"), out / f"{kind}-{seed}")
    run.train(shown=Shown(place))
    metrics = run.evaluate()["test"].metrics
    epochs_run = len(run.trainer.progress.history)
    return {"class_weights": kind, "seed": seed, "epochs": epochs_run, **metrics}


def main() -> int:
    """Train with every seed, print a table, write CSV and a picture."""
    parser = script_parser(__doc__, "out/class_weights")
    add_table(parser)
    add_format(parser)
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="how many")
    options = parser.parse_args()
    output = output_of(options, options.out)
    count, epochs = (2, 2) if options.quick else (options.seeds, 100)
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    options.out.mkdir(parents=True, exist_ok=True)
    runs = [(k, s) for k in KINDS for s in range(options.seed, options.seed + count)]
    rows = calls_of(one_run, [(dataset, kind, seed, epochs, options.out) for kind, seed in runs])
    write_csv(options.out / "class_weights.csv", rows)
    plots.score_marks(
        {f"class weights: {k}": [row for row in rows if row["class_weights"] == k] for k in KINDS},
        "What class weights buy and cost",
        output.path("class_weights"),
    )
    tested = int((dataset.surname_df["split"] == "test").sum())
    print(f"{tested:,} test rows, {count} seeds: mean (range)")
    for kind in KINDS:
        of_kind = [row for row in rows if row["class_weights"] == kind]
        print(f"class weights {kind}:")
        for score in plots.SCORE_NAMES:
            values = [row[score] for row in of_kind]
            print(f"  {score:<18} {statistics.mean(values):.4f} "
                  f"({min(values):.4f} to {max(values):.4f})")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(guarded("class_weights.py", main))
