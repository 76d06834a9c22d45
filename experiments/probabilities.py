"""What the probabilities of a trained model are worth: temperature, thresholds, sets, populations.

Each seed trains each setting as ``npnlp train`` does, which fits the temperature, the thresholds
and the bounds of sets on val, and then reads test, once. The error by chance is the expected
calibration error (15 bins) that as many rows would show by chance alone. For another population a
random half of the classes stands thrice as often in test, 20 times over: the accuracy with the
model as it is, with the shares known, and with those estimated from the names. Names of test stand
against random strings and against 200 companies and products (``experiments/data``).
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from npnlp.backend import Backend, get_backend
from npnlp.checks import require_whole
from npnlp.cli.options import add_backend
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.files import write_csv
from npnlp.lab.comparison import entrant_of
from npnlp.lab.probabilities import measured
from npnlp.runs.run import Run
from npnlp.text import SurnameDataset
from npnlp.training.config import TrainingConfig
from npnlp.training.recipes import RECIPES

OTHERS = Path(__file__).parent / "data" / "companies_and_products.txt"
DRAWS, STRINGS, QUICK = 20, 2000, (2, 100)


def one_run(dataset: SurnameDataset, recipe: str, seed: int, quick: bool, backend: Backend,
            out: Path) -> dict[str, Any]:  # fmt: skip
    """Train as ``npnlp train --seed SEED`` does, with the recipe if it is one; its row."""
    entrant = entrant_of(recipe, RECIPES.get(recipe, {}))
    short = {"num_epochs": 2, "warm_up": 0.0} if quick else {}
    config = TrainingConfig(**{**entrant.training, "seed": seed, **short})
    run = Run.make(dataset, config, dict(entrant.shape), backend, out / f"{recipe}-{seed}")
    started = time.process_time()
    run.train()
    seconds = time.process_time() - started
    others = OTHERS.read_text(encoding="utf-8").splitlines()
    draws, count = QUICK if quick else (DRAWS, STRINGS)
    row = {"recipe": recipe, "seed": seed, "backend": backend.name, "train_seconds": seconds}
    return {**row, **measured(run, others, draws, count)}


def summary(rows: list[dict[str, Any]], name: str) -> str:
    """The mean of the runs that have this number, with the smallest and the largest."""
    values = [row[name] for row in rows if not math.isnan(row[name])]
    if not values:
        return "no run has it"
    some = "" if len(values) == len(rows) else f", {len(values)} of {len(rows)} runs"
    digits = 4 if max(map(abs, values)) < 100 else 0
    least, mean, most = (f"{value:,.{digits}f}" for value in (
        min(values), sum(values) / len(values), max(values)))  # fmt: skip
    return f"{mean} ({least} to {most}{some})"


def main() -> int:
    """Train with every setting and seed, write a CSV, print a table."""
    parser = script_parser(__doc__, "out/probabilities")
    add_table(parser)
    add_backend(parser)
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="how many")
    parser.add_argument("--recipes", nargs="+", default=["default"], metavar="NAME",
                        choices=("default", *RECIPES),
                        help=f"which settings: default, {', '.join(RECIPES)}")  # fmt: skip
    options = parser.parse_args()
    require_whole("seeds", options.seeds)
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    backend = get_backend(options.backend)
    options.out.mkdir(parents=True, exist_ok=True)
    seeds = range(options.seed, options.seed + (2 if options.quick else options.seeds))
    rows: list[dict[str, Any]] = []
    for recipe, seed in tqdm([(r, s) for r in options.recipes for s in seeds],
                             unit="run", disable=None):  # fmt: skip
        rows.append(one_run(dataset, recipe, seed, options.quick, backend, options.out))
        write_csv(options.out / "probabilities.csv", rows)  # what is done stays, if one is stopped
    print(f"{len(dataset.frames['test']):,} test rows, {len(seeds)} seeds: mean (range)")
    for recipe in dict.fromkeys(options.recipes):
        print(f"{recipe}:")
        for name in list(rows[0])[3:]:
            of_recipe = [row for row in rows if row["recipe"] == recipe]
            print(f"  {name:<36} {summary(of_recipe, name)}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded("probabilities.py", main))
