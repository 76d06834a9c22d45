"""What recording the gradient flow costs: a training epoch with it over one without.

Two trainers of the same model on the same rows take turns, epoch by epoch, and each goes first in
every other round. Only training is timed, in processor time from its first batch to its last;
evaluation is the same for both. The ratio is taken round by round. A busy machine blurs it, and so
what an epoch records is timed by itself, too, on a batch of the same model: all of it, and of it
the norm of the product of Jacobians, which should take at most 3 % of an epoch without recording.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from npnlp.backend import get_backend
from npnlp.backend.threads import in_one_blas_thread
from npnlp.classifier.batches import batches
from npnlp.classifier.flow import WIDTH, flow_layers
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.files import write_csv
from npnlp.gradients.norms import norms_and_shares
from npnlp.gradients.steps import steps_of
from npnlp.layers import CELLS
from npnlp.runs.run import Run
from npnlp.text import SurnameDataset
from npnlp.training.config import TrainingConfig
from npnlp.training.recorder import add_flow
from npnlp.training.trainer import Trainer

BOUND = 0.03
#: What is recorded is taken so often, and the median counts.
TIMES = 9


def make(dataset: SurnameDataset, seed: int, flow: bool, cell: str, out: Path) -> Trainer:
    """A trainer as ``npnlp train`` makes it, that does not stop."""
    config = TrainingConfig(
        num_epochs=10**6, seed=seed, early_stopping_criteria=10**6, gradient_flow=flow
    )
    return Run.make(dataset, config, {"cell": cell}, get_backend("numpy"), out).trainer


def epoch_seconds(trainer: Trainer) -> float:
    """Processor time of an epoch's training, without its first batch."""
    noted: list[float] = []
    trainer.run_epoch(lambda: noted.append(time.process_time()))
    return noted[-1] - noted[0]


@in_one_blas_thread
def own_seconds(trainer: Trainer) -> dict[str, float]:
    """Processor time of what an epoch records, ``flow``, and of the ``norm`` in it."""
    model, traces = trainer.model, list[Any]()
    rows = np.arange(trainer.config.batch_size)
    batch = next(batches(trainer.train, rows, len(rows), model.backend))
    model.zero_grads()
    trainer.objective(model, batch, trainer.random, traces.append)
    parts = [(steps_of(t.layer, t.cache), t.cache.packing, t.d_states) for t in traces]
    layers = flow_layers(model)

    def record() -> None:
        add_flow(np.empty((0, WIDTH)), traces, layers, 0)

    def norm() -> None:
        for part in parts:
            norms_and_shares(*part)

    return {"flow": median_seconds(record), "norm": median_seconds(norm)}


def median_seconds(call: Callable[[], None]) -> float:
    """Processor time of a call, the median of some."""
    seconds = []
    for _ in range(TIMES):
        started = time.process_time()
        call()
        seconds.append(time.process_time() - started)
    return float(np.median(seconds))


def measure(trainers: dict[str, Trainer], rounds: int, cell: str) -> list[dict[str, Any]]:
    """Seconds of an epoch with and without, a row a round; the round before the first warms up."""
    rows: list[dict[str, Any]] = []
    for number in tqdm(range(rounds + 1), unit="round", disable=None):
        order = list(trainers)[:: 1 if number % 2 else -1]
        seconds = {name: epoch_seconds(trainers[name]) for name in order}
        own, without = own_seconds(trainers["without"]), seconds["without"]
        rows.append({
            "cell": cell, "round": number, **seconds, **own, "ratio": seconds["with"] / without,
            **{f"{name}_share": taken / without for name, taken in own.items()},
        })  # fmt: skip
    return rows[1:]


def main() -> int:
    """Measure, print and write."""
    parser = script_parser(__doc__, "out/probe_cost")
    add_table(parser)
    parser.add_argument("--rounds", type=int, default=40, help="epochs of each")
    parser.add_argument("--cell", choices=CELLS, default="elman", help="the cell of the model")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; give at least 1")
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    kinds = {"with": True, "without": False}
    trainers = {
        name: make(dataset, options.seed, flow, options.cell, options.out)
        for name, flow in kinds.items()
    }
    rows = measure(trainers, 2 if options.quick else options.rounds, options.cell)
    milliseconds = {
        kind: 1e3 * float(np.median([row[kind] for row in rows]))
        for kind in (*kinds, "flow", "norm")
    }
    print(f"{options.cell}, {len(dataset):,} names, {len(rows)} rounds: "
          f"{milliseconds['with']:.1f} ms an epoch with the gradient flow, "
          f"{milliseconds['without']:.1f} ms without")  # fmt: skip
    low, median, high = np.percentile([row["ratio"] for row in rows], [25, 50, 75])
    print(f"with it over without: {median:.3f} (quartiles {low:.3f} to {high:.3f})")
    for name, said in (("flow", "all that is recorded"), ("norm", "the norm of the product")):
        low, median, high = np.percentile([row[f"{name}_share"] for row in rows], [25, 50, 75])
        print(f"{said} by itself: {milliseconds[name]:.2f} ms, {median:.2%} of an epoch "
              f"(quartiles {low:.2%} to {high:.2%})")  # fmt: skip
    print(f"the bound of the norm is {BOUND:.0%}")
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "probe_cost.csv", rows)
    return 0


if __name__ == "__main__":
    sys.exit(guarded("probe_cost.py", main))
