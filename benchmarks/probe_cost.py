"""What recording the gradient flow costs: a training epoch with it over one without.

Two trainers of the same model on the same rows take turns, epoch by epoch, and each goes first in
every other round. Only training is timed; evaluation is the same for both. The ratio is taken round
by round; its median should be at most 1.03.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from npnlp.backend import get_backend
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.files import write_csv
from npnlp.runs.run import Run
from npnlp.text import SurnameDataset
from npnlp.training.config import TrainingConfig
from npnlp.training.trainer import Trainer

BOUND = 1.03


def make(dataset: SurnameDataset, seed: int, flow: bool, out: Path) -> Trainer:
    """A trainer as ``npnlp train`` makes it, that does not stop."""
    config = TrainingConfig(
        num_epochs=10**6, seed=seed, early_stopping_criteria=10**6, gradient_flow=flow
    )
    return Run.make(dataset, config, {}, get_backend("numpy"), out).trainer


def measure(trainers: dict[str, Trainer], rounds: int) -> list[dict[str, Any]]:
    """Seconds of an epoch with and without, a row a round; the round before the first warms up."""
    rows: list[dict[str, Any]] = []
    for number in tqdm(range(rounds + 1), unit="round", disable=None):
        order = list(trainers)[:: 1 if number % 2 else -1]
        seconds = {name: trainers[name].run_epoch()["seconds"] for name in order}
        with_flow, without = seconds["with"], seconds["without"]
        row = {"round": number, "with": with_flow, "without": without, "ratio": with_flow / without}
        rows.append(row)
    return rows[1:]


def main() -> int:
    """Measure, print and write."""
    parser = script_parser(__doc__, "out/probe_cost")
    add_table(parser)
    parser.add_argument("--rounds", type=int, default=40, help="epochs of each")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; give at least 1")
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    kinds = {"with": True, "without": False}
    trainers = {
        name: make(dataset, options.seed, flow, options.out) for name, flow in kinds.items()
    }
    rows = measure(trainers, 2 if options.quick else options.rounds)
    low, median, high = np.percentile([row["ratio"] for row in rows], [25, 50, 75])
    milliseconds = {kind: 1e3 * float(np.median([row[kind] for row in rows])) for kind in kinds}
    print(f"{len(dataset):,} names, {len(rows)} rounds: {milliseconds['with']:.1f} ms an epoch "
          f"with the gradient flow, {milliseconds['without']:.1f} ms without")  # fmt: skip
    print(f"ratio {median:.3f} (quartiles {low:.3f} to {high:.3f}); the bound is {BOUND}")
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "probe_cost.csv", rows)
    return 0


if __name__ == "__main__":
    sys.exit(guarded("probe_cost.py", main))
