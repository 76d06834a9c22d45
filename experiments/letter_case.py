"""What letter case does to a classifier: test names as written, in capitals, in lower case.

Each seed trains the default model, which then chooses on the validation split how it reads names
(:mod:`npnlp.text.letter_case`). The same weights are measured with names read as they are written,
and read as was chosen. All test rows count, dropout is off.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

from npnlp.backend import get_backend
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.files import write_csv
from npnlp.runs.run import Run
from npnlp.runs.seeds import Shown
from npnlp.runs.side_by_side import Place, calls_of
from npnlp.text import SurnameDataset
from npnlp.text.letter_case import AS_WRITTEN, WRITINGS
from npnlp.training.config import TrainingConfig

NAMES = ("as written", "in capitals", "in lower case", "in title case")


def one_run(
    dataset: SurnameDataset, seed: int, epochs: int, out: Path, place: Place
) -> list[dict[str, Any]]:
    """Train as ``npnlp train --seed SEED`` does; the test accuracies, by the way of reading."""
    run = Run.make(dataset, TrainingConfig(num_epochs=epochs, seed=seed), {},
                   get_backend("numpy"), out / str(seed))  # fmt: skip
    run.train(shown=Shown(place))
    test, chosen = dataset.frames["test"], dataset.get_vectorizer().letter_case
    labels = dataset.get_vectorizer().nationality_vocab
    truth = [labels.lookup_token(label) for label in test["nationality"]]
    rows: list[dict[str, Any]] = []
    for reading, case in (("as written", AS_WRITTEN), ("as chosen", chosen)):
        dataset.set_letter_case(case)
        row: dict[str, Any] = {"read": reading, "seed": seed, "letter_case": case}
        for name, write in zip(NAMES, WRITINGS, strict=True):
            best = run.classifier.best([write(surname) for surname in test["surname"]])[0][:, 0]
            row[name] = float((best == truth).mean())
        rows.append(row)
    return rows


def main() -> int:
    """Train with every seed, print a table, write a CSV."""
    parser = script_parser(__doc__, "out/letter_case")
    add_table(parser)
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="how many")
    options = parser.parse_args()
    count, epochs = (2, 2) if options.quick else (options.seeds, 100)
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    options.out.mkdir(parents=True, exist_ok=True)
    seeds = range(options.seed, options.seed + count)
    runs = [(dataset, seed, epochs, options.out) for seed in seeds]
    rows = [row for found in calls_of(one_run, runs) for row in found]
    write_csv(options.out / "letter_case.csv", rows)
    print(f"{len(dataset.frames['test']):,} test rows, {count} seeds: mean accuracy (range)")
    for reading in ("as written", "as chosen"):
        of_reading = [row for row in rows if row["read"] == reading]
        print(f"read {reading} ({', '.join(sorted({row['letter_case'] for row in of_reading}))}):")
        for name in NAMES:
            values = [row[name] for row in of_reading]
            print(f"  names {name:<14} {statistics.mean(values):.4f} "
                  f"({min(values):.4f} to {max(values):.4f})")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(guarded("letter_case.py", main))
