"""One cell at one size: its training steps, the floor beneath them, and where the rest goes."""

from __future__ import annotations

import cProfile
import pstats
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import npnlp
from npnlp.backend import Backend, Random
from npnlp.classifier.batches import Batch, batches
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SplitArrays
from npnlp.training.config import TrainingConfig
from npnlp.training.trainer import Trainer
from passes.machine_rates import Rates
from passes.recorder import RecordingBackend, cost_of_a_call, recording
from passes.step_work import Operation, Product, Sweep, Tanh, work_of

EMBEDDING = 100
#: The steps of a round are so many times taken: the products that they are compared with are
#: measured in far shorter pieces, which are seldom all disturbed.
TIMES = 4
#: Parts of the floor, and of what a step takes beyond it.
FLOOR = ("products", "tanh", "elementwise", "gather", "optimizer")
BEYOND = ("interpreter", "gather", "elementwise", "small_products", "optimizer")


class Steps:
    """A trainer of the classifier on ``backend``, and the first batches of an epoch."""

    def __init__(
        self, split: SplitArrays, sizes: dict[str, int], cell: str, hidden: int, batch_size: int,
        count: int, seed: int, backend: Backend,
    ) -> None:  # fmt: skip
        config = ClassifierConfig(
            sizes["characters"], sizes["classes"], EMBEDDING, hidden, cell=cell
        )
        model = SurnameClassifier(config, backend=backend, random=Random(seed, "model"))
        training = TrainingConfig(batch_size=batch_size, seed=seed, gradient_flow=False)
        self.trainer = Trainer(model, split, split, training)
        order = Random(seed, "roofline").permutation(len(split))
        whole = max(len(split) // batch_size, 1)
        made = batches(split, order, batch_size, backend)
        self.batches: list[Batch] = list(islice(made, min(count, whole)))

    def warm_up(self) -> None:
        """A step that is not counted: in training one follows another, here it follows copies.

        They swept the cache; the operands of measured products are brought back into it, too.
        """
        self.trainer.step(self.batches[-1])

    def seconds(self) -> list[float]:
        """Of a step on each batch."""
        taken = []
        for batch in self.batches:
            started = time.perf_counter()
            self.trainer.step(batch)
            taken.append(time.perf_counter() - started)
        return taken

    def work(self) -> list[list[Operation]]:
        """The operations of each batch's step."""
        return [list(work_of(self.trainer.model, batch)) for batch in self.batches]

    def recorded(self, nothing: float) -> tuple[dict[str, float], dict[str, float]]:
        """Seconds and calls by part, means of a step; ``nothing`` is what the clock takes."""
        optimizer: Any = self.trainer.optimizer
        plain_step = optimizer.step
        with recording() as book:

            def step() -> None:
                with book.inside("optimizer"):
                    plain_step()

            optimizer.step = step
            try:
                self.seconds()
            finally:
                optimizer.step = plain_step
        count = len(self.batches)
        calls = {part: number / count for part, number in book.calls.items()}
        seconds = {part: s / count - calls[part] * nothing for part, s in book.seconds.items()}
        return seconds, calls

    def profile(self, times: int, lines: int) -> Iterator[str]:
        """The functions of this project in which the steps spend most time, the most first."""
        profiler = cProfile.Profile()
        profiler.enable()
        for _ in range(times):
            self.seconds()
        profiler.disable()
        stats: Any = pstats.Stats(profiler)
        steps, root = times * len(self.batches), Path(npnlp.__file__).parents[1]
        rows = [
            (own, through, calls, Path(file).relative_to(root), name)
            for (file, _, name), (_, calls, own, through, _) in stats.stats.items()
            if Path(file).is_relative_to(root / "npnlp")
        ]
        yield f"{'own us':>9}{'with callees':>14}{'calls':>8}  function, of a step"
        for own, through, calls, file, name in sorted(rows, reverse=True)[:lines]:
            yield (f"{1e6 * own / steps:>9.1f}{1e6 * through / steps:>14.1f}"
                   f"{calls / steps:>8.1f}  {file.as_posix()}: {name}")  # fmt: skip


def measure(
    make: Any, cell: str, hidden: int, rounds: int, seed: int, backend: Backend
) -> dict[str, Any]:
    """The row of a case; ``make(backend)`` gives its :class:`Steps`.

    Each round measures the rates, warms up, steps on all batches a few times, and records steps; of
    each the best counts, since whatever else runs on the machine can only add. Medians of the step
    are there too. What is beyond the floor is taken apart for NumPy alone, and empty for another
    ``backend``. ``cpu_share`` is the part of the time in which the process had a core.
    """
    plain = backend.name == "numpy"
    steps, twin = make(backend), make(RecordingBackend()) if plain else None
    work = steps.work()
    rates = Rates({o for of_batch in work for o in of_batch if isinstance(o, Product)}, seed)
    nothing, of_call = cost_of_a_call()
    taken: list[list[float]] = []
    running: list[float] = []
    parts: list[dict[str, float]] = []
    for number in range(rounds + 1):
        rates.measure()
        for each in (steps, twin):
            if each is not None:
                each.warm_up()
        cpu = time.process_time()
        of_round = [steps.seconds() for _ in range(TIMES)]
        cpu = (time.process_time() - cpu) / float(np.sum(of_round))
        seconds, calls = ({}, {}) if twin is None else twin.recorded(nothing)
        if number:  # the first warms up
            taken += of_round
            running.append(cpu)
            parts.append(seconds)
    floors = [rates.floor(of_batch) for of_batch in work]
    floor = {part: float(np.mean([of[part] for of in floors])) for part in FLOOR}
    best = float(np.min(taken, axis=0).mean())
    spent = {part: min(of.get(part, 0.0) for of in parts) for part in FLOOR}
    rest = beyond(best, floor, spent, calls, of_call - nothing)
    return {
        **{"cell": cell, "H": hidden, "rounds": rounds},
        **counts(work, steps.batches),
        **times(best, np.mean(taken, axis=1), floor),
        **{f"floor_{part}_us": 1e6 * floor[part] for part in FLOOR},
        **{f"beyond_{part}_us": 1e6 * rest[part] if plain else None for part in BEYOND},
        "gflops_at_best": best_gflops(rates),
        "cpu_share": float(np.median(running)),
    }  # fmt: skip


def counts(work: list[list[Operation]], made: list[Batch]) -> dict[str, Any]:
    """What a step has to do, means over the batches."""
    every = [operation for of_batch in work for operation in of_batch]
    batches_made = len(work)
    return {
        "B": float(np.mean([len(batch.rows) for batch in made])),
        "N": float(np.mean([batch.packing.rows for batch in made])),
        "T": float(np.mean([len(batch.packing.batch_sizes) for batch in made])),
        "product_operations": sum(o.operations for o in every if isinstance(o, Product))
        / batches_made,
        "tanh_evaluations": sum(o.evaluations for o in every if isinstance(o, Tanh)) / batches_made,
        "bytes_moved": sum(o.moved for o in every if isinstance(o, Sweep)) / batches_made,
    }


def times(best: float, rounds: Any, floor: dict[str, float]) -> dict[str, float]:
    """The step against its floor; ``sgemm_share`` is that of the product rate that it reaches."""
    low, median, high = np.percentile(rounds, [25, 50, 75]).tolist()
    least = sum(floor.values())
    return {
        "floor_us": 1e6 * least,
        "step_us": 1e6 * best,
        "step_median_us": 1e6 * median,
        "step_q25_us": 1e6 * low,
        "step_q75_us": 1e6 * high,
        "ratio": best / least,
        "ratio_of_median": median / least,
        "sgemm_share": floor["products"] / best,
    }


def beyond(
    step: float, floor: dict[str, float], spent: dict[str, float], calls: dict[str, float],
    of_call: float,
) -> dict[str, float]:  # fmt: skip
    """Seconds of a step that the floor does not have, by what takes them.

    ``spent`` and ``calls`` are by part, as recorded; ``of_call`` is what NumPy takes to call a
    ufunc, on no numbers at all, which is the interpreter's.
    """
    loops = {
        part: max(spent[part] - (calls.get(part, 0) * of_call if part != "products" else 0), 0.0)
        for part in FLOOR
    }
    return {
        "interpreter": step - sum(loops.values()),
        "gather": loops["gather"] - floor["gather"],
        "elementwise": loops["tanh"] + loops["elementwise"] - floor["tanh"] - floor["elementwise"],
        "small_products": loops["products"] - floor["products"],
        "optimizer": loops["optimizer"] - floor["optimizer"],
    }


def best_gflops(rates: Rates) -> float:
    """The rate of the product that goes fastest, in 1e9 operations a second."""
    return 1e-9 * max(p.operations / seconds for p, seconds in rates.product.items())
