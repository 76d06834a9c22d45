"""What a rank measures: epochs that it shares, and sums over all ranks; run by ``mpiexec``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from npnlp.backend import Array, Backend, get_backend
from npnlp.backend.threads import one_blas_thread
from npnlp.files.plain_json import to_json
from npnlp.runs.run import Run
from npnlp.text import SurnameDataset
from npnlp.training.config import TrainingConfig
from npnlp.training.distributed.mpi import Mpi
from npnlp.training.distributed.shared import Communicator, Shared
from npnlp.training.ranks import ALONE
from npnlp.training.trainer import Trainer

#: By name: fields of the model, and the names in a batch of all ranks.
MODELS: dict[str, tuple[dict[str, Any], int]] = {
    "elman 64, batch 64": ({}, 64),
    "bigru 128, batch 64": ({"cell": "gru", "bidirectional": True, "rnn_hidden_size": 128}, 64),
    "bigru 128, batch 256": ({"cell": "gru", "bidirectional": True, "rnn_hidden_size": 128}, 256),
}
#: Numbers in a message, to tell the time that each sum takes from that which each number takes.
SIZES = (4, 3000, 30_000, 300_000)
SUMS = 200


class Timed:
    """A communicator with a clock: seconds and calls since it was last set to zero."""

    def __init__(self, communicator: Communicator) -> None:
        self.communicator = communicator
        self.rank, self.size = communicator.rank, communicator.size
        self.local_rank = communicator.local_rank
        self.seconds, self.calls = 0.0, 0

    def total(self, values: Array, backend: Backend) -> Array:
        """See :class:`Communicator`."""
        started = time.perf_counter()
        summed = self.communicator.total(values, backend)
        self.seconds += time.perf_counter() - started
        self.calls += 1
        return summed

    def from_first(self, content: bytes) -> bytes:
        """See :class:`Communicator`."""
        return self.communicator.from_first(content)


class OneOf:
    """Rank 0 of ``size`` of which the others are left out: what is computed, and nothing sent."""

    def __init__(self, size: int) -> None:
        self.rank, self.local_rank, self.size = 0, 0, size

    def total(self, values: Array, backend: Backend) -> Array:
        """``values``."""
        return values

    def from_first(self, content: bytes) -> bytes:
        """``content``."""
        return content


def make(dataset: SurnameDataset, model: str, seed: int, communicator: Communicator) -> Trainer:
    """A trainer that does not stop, and keeps no gradient flow; alone where there is one rank."""
    shape, batch_size = MODELS[model]
    config = TrainingConfig(
        num_epochs=10**6, seed=seed, early_stopping_criteria=10**6, batch_size=batch_size,
        gradient_flow=False,
    )  # fmt: skip
    ranks = Shared(communicator) if communicator.size > 1 else ALONE
    folder = Path("not written")
    return Run.make(dataset, config, shape, get_backend("numpy"), folder, ranks=ranks).trainer


def epochs(trainer: Trainer, clock: Timed, count: int) -> list[dict[str, float]]:
    """Of each of ``count`` epochs but the first: its seconds, and those spent in sums."""
    rows = []
    for _ in range(count + 1):
        clock.seconds, clock.calls = 0.0, 0
        in_sums: list[float] = []

        def on_batch(seen: list[float] = in_sums) -> None:
            seen.append(clock.seconds)

        seconds = trainer.run_epoch(on_batch)["seconds"]
        rows.append({"seconds": seconds, "in_sums": in_sums[-1], "batches": len(in_sums)})
    return rows[1:]


def sums(communicator: Communicator) -> list[dict[str, float]]:
    """Seconds of a sum of each of :data:`SIZES`: the lower quartile."""
    rows = []
    for size in SIZES:
        values, seconds = np.ones(size, dtype=np.float32), []
        for _ in range(SUMS):
            started = time.perf_counter()
            communicator.total(values, get_backend("numpy"))
            seconds.append(time.perf_counter() - started)
        rows.append({"bytes": values.nbytes, "seconds": float(np.quantile(seconds, 0.25))})
    return rows


def main() -> None:
    """Measure and print as JSON, on rank 0: TABLE EPOCHS SEED MODEL..."""
    table, count, seed, *models = sys.argv[1:]
    clock = Timed(Mpi())
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(table)
    found: dict[str, Any] = {"sums": sums(clock)}
    for model in models:
        trainer = make(dataset, model, int(seed), clock)
        found[model] = epochs(trainer, clock, int(count))
    if clock.rank == 0:
        print(to_json(found))


if __name__ == "__main__":
    with one_blas_thread():
        main()
