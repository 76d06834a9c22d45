"""Training epochs of the surname classifier, this project's, and ways measured interleaved."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from tqdm import tqdm

from npnlp.backend import Backend, Random, get_backend
from npnlp.errors import DeviceError
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SplitArrays, SurnameDataset
from npnlp.training.config import TrainingConfig
from npnlp.training.trainer import Trainer

EMBEDDING, BATCH = 100, 64
OURS, COMPILED = "npnlp", "npnlp --backend numba"

Epoch = Callable[[], Any]
#: Seconds of the processor and on the wall.
Pair = tuple[float, float]


def npnlp_model(
    dataset: SurnameDataset, cell: str, hidden: int, backend: Backend | None = None
) -> SurnameClassifier:
    """The model in this project."""
    vectorizer = dataset.get_vectorizer()
    config = ClassifierConfig(
        len(vectorizer.char_vocab), len(vectorizer.nationality_vocab), EMBEDDING, hidden, cell=cell
    )
    return SurnameClassifier(config, backend=backend, random=Random(0, "model"))


def npnlp_epoch(
    dataset: SurnameDataset, cell: str = "elman", hidden: int = 64, backend: Backend | None = None
) -> Epoch:
    """An epoch of this project, with its norms and its log; its evaluation is of one name only.

    The gradient flow is not recorded: the others have none, and benchmarks/probe_cost.py says
    what it takes.
    """
    val = dataset.arrays("val")
    one = SplitArrays(
        val.tokens[: val.lengths[0]], val.starts[:1], val.lengths[:1], val.targets[:1]
    )
    training = TrainingConfig(
        num_epochs=10**6, batch_size=BATCH, gradient_flow=False, early_stopping_criteria=10**6
    )
    model = npnlp_model(dataset, cell, hidden, backend)
    return Trainer(model, dataset.arrays("train"), one, training).run_epoch


def own_epochs(
    dataset: SurnameDataset, cell: str = "elman", hidden: int = 64, backend: Backend | None = None
) -> dict[str, Epoch]:
    """Those of this project: "npnlp", and the compiled loops where Numba is installed."""
    ways = {OURS: npnlp_epoch(dataset, cell, hidden, backend)}
    with suppress(DeviceError):
        ways[COMPILED] = npnlp_epoch(dataset, cell, hidden, get_backend("numba"))
    return ways


def timed(epoch: Epoch) -> Pair:
    """What an epoch takes."""
    wall, processor = time.perf_counter(), time.process_time()
    epoch()
    return time.process_time() - processor, time.perf_counter() - wall


def measure(
    ways: dict[str, Epoch], rounds: int, leave_out: Callable[[str, Exception], bool]
) -> tuple[dict[str, list[Pair]], dict[str, Pair]]:
    """What an epoch of every way takes, ``rounds`` times, interleaved; and what its first one took.

    The first one, which compiles, is in no median. A way that cannot begin is left out where
    ``leave_out`` says so.
    """
    firsts: dict[str, Pair] = {}
    with tqdm(total=(rounds + 1) * len(ways), unit="epoch", disable=None) as bar:
        for way, epoch in ways.items():
            try:
                firsts[way] = getattr(epoch, "compiled_in", None) or timed(epoch)
            except Exception as error:
                if not leave_out(way, error):
                    raise
            bar.update()
        found: dict[str, list[Pair]] = {way: [] for way in firsts}
        for _ in range(rounds):
            for way in firsts:
                found[way].append(timed(ways[way]))
                bar.update()
    return found, firsts


def report(
    found: dict[str, list[Pair]], firsts: dict[str, Pair], names: int, clock: str
) -> list[dict[str, Any]]:
    """A row a way: medians in both clocks, and the ratio to NumPy's in ``clock`` with quartiles.

    Where the compiled backend was measured too, ``compiled_ratio`` is that to it.
    """
    column = ("processor", "wall").index(clock)
    rows = []
    for way, pairs in found.items():
        processor, wall = np.median(pairs, axis=0).tolist()
        row = {
            "way": way, "epoch_processor_seconds": processor, "epoch_wall_seconds": wall,
            "names_per_second": names / (processor, wall)[column],
            "first_epoch_wall_seconds": firsts[way][1],
        }  # fmt: skip
        theirs = np.array(pairs)[:, column]
        for name, ours in {"ratio": OURS, "compiled_ratio": COMPILED}.items():
            if ours in found:
                ratios = theirs / np.array(found[ours])[:, column]
                quartiles = np.percentile(ratios, [50, 25, 75]).tolist()
                row |= dict(zip((name, f"{name}_q25", f"{name}_q75"), quartiles, strict=True))
        rows.append(row)
    return rows
