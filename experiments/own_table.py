"""The project's own table of surnames against the reference table.

How many of its pairs the reference table also has, and how well a model that was trained on the
project's table alone does on the reference's test rows. The reference table is for checking only:
no row of it is in the project's. With --card the figures are written into the data card.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from npnlp import plots
from npnlp.backend import get_backend
from npnlp.classifier.evaluation import evaluate
from npnlp.cli.pictures import add_format, output_of
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.files import fill_section, write_csv
from npnlp.runs.run import Run
from npnlp.text import SurnameDataset, own_table_path, read_table
from npnlp.text.dataset import require_known_nationalities
from npnlp.text.rows import Rows
from npnlp.training.config import TrainingConfig


def overlap(own: pd.DataFrame, reference: pd.DataFrame) -> dict[str, int]:
    """How many different pairs, and names, of the own table the reference also has."""

    def pairs(frame: pd.DataFrame) -> set[tuple[str, str]]:
        return set(zip(frame["surname"], frame["nationality"], strict=True))

    shared_names = set(own["surname"]) & set(reference["surname"])
    return {
        "pairs": len(pairs(own)),
        "pairs_in_reference": len(pairs(own) & pairs(reference)),
        "reference_pairs": len(pairs(reference)),
        "names_in_reference": len(shared_names),
    }


def transfer(
    own: SurnameDataset, reference: SurnameDataset, seed: int, epochs: int, out: Path
) -> dict[str, float]:
    """Train on the own table; scores on its test rows and on the reference's."""
    config = TrainingConfig(num_epochs=epochs, seed=seed)
    run = Run.make(own, config, {}, get_backend("numpy"), out / f"seed-{seed}")
    run.train()
    trainer = run.trainer
    on_own = evaluate(trainer.model, own.arrays("test"), trainer.criterion).metrics
    on_reference = evaluate(trainer.model, reference.arrays("test"), trainer.criterion).metrics
    return {
        "seed": seed,
        **{f"own_{name}": value for name, value in on_own.items()},
        **{f"reference_{name}": value for name, value in on_reference.items()},
    }


def sentences(shared: dict[str, int], rows: list[dict[str, float]]) -> str:
    """The figures in words, for the card."""

    def mean(name: str) -> str:
        values = [row[name] for row in rows]
        return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"

    return (
        f"Of the {shared['pairs']:,} pairs, {shared['pairs_in_reference']:,} stand in the "
        f"reference table too, which has {shared['reference_pairs']:,} different pairs; no row "
        "was copied from it.\n\n"
        f"The default model, trained on this table alone, over {len(rows)} seeds, mean (range):\n\n"
        "| test rows of | accuracy | balanced accuracy | macro F1 |\n| --- | --- | --- | --- |\n"
        f"| this table | {mean('own_accuracy')} | {mean('own_balanced_accuracy')} | "
        f"{mean('own_macro_f1')} |\n"
        f"| the reference table | {mean('reference_accuracy')} | "
        f"{mean('reference_balanced_accuracy')} | {mean('reference_macro_f1')} |\n\n"
        "The reference's classes are far from equal (its largest is 27 % of the test rows), so its "
        "accuracy\nand its balanced accuracy say different things.\n"
    )


def main() -> int:
    """Compare, train, print and write."""
    parser = script_parser(__doc__, "out/own_table")
    add_table(parser, "--reference")
    add_format(parser)
    parser.add_argument("--card", type=Path, metavar="FILE", help="write the figures in there")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="how many")
    options = parser.parse_args()
    output = output_of(options, options.out)
    count, epochs = (1, 2) if options.quick else (options.seeds, 100)
    own = SurnameDataset.load_dataset_and_make_vectorizer(own_table_path())
    frame = read_table(options.reference)
    require_known_nationalities(Rows.of(frame), own.get_vectorizer(), str(options.reference))
    reference = SurnameDataset(frame, own.get_vectorizer())
    options.out.mkdir(parents=True, exist_ok=True)
    rows = [
        transfer(own, reference, seed, epochs, options.out)
        for seed in tqdm(range(options.seed, options.seed + count), unit="seed", disable=None)
    ]
    shared = overlap(own.surname_df, frame)
    write_csv(options.out / "own_table.csv", rows)
    write_csv(options.out / "own_table_overlap.csv", [shared])
    tables = ("own", "reference")
    plots.score_marks(
        {
            f"test rows of the {table} table": [
                {score: row[f"{table}_{score}"] for score in plots.SCORE_NAMES} for row in rows
            ]
            for table in tables
        },
        "Trained on the project's own table alone",
        output.path("own_table"),
    )
    text = sentences(shared, rows)
    print(text)
    if options.card:
        fill_section(options.card, "figures of experiments/own_table.py", text)
    return 0


if __name__ == "__main__":
    sys.exit(guarded("own_table.py", main))
