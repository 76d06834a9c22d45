"""How far a recurrent network remembers: train it on a task until it is solved, or not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npnlp.backend import Array, Backend, Random
from npnlp.checks import require_positive, require_whole
from npnlp.errors import InputError
from npnlp.lab.tasks import TASKS, Task
from npnlp.lab.variants import DEFAULT_VARIANT, VARIANTS, Variant
from npnlp.layers import MeanSquaredError, Packing, SoftmaxCrossEntropy
from npnlp.models import SequenceConfig, SequenceModel
from npnlp.training.clipping import clip_grad_norm
from npnlp.training.optimizers import Adam

CRITERIA = {"mse": MeanSquaredError, "cross_entropy": SoftmaxCrossEntropy}


@dataclass(frozen=True)
class LabConfig:
    """What is the same for all runs that are compared.

    ``budget`` is the most updates a run may take. Every ``check_every`` of them the loss is taken
    on ``check_size`` fresh sequences, and a run that has solved its task ends there.
    """

    budget: int = 2000
    batch_size: int = 32
    hidden_size: int = 64
    learning_rate: float = 1e-3
    clip_norm: float = 1.0
    check_every: int = 100
    check_size: int = 1024

    def __post_init__(self) -> None:
        for name in ("budget", "batch_size", "hidden_size", "check_every", "check_size"):
            require_whole(name, getattr(self, name))
        require_positive("learning_rate", self.learning_rate)
        require_positive("clip_norm", self.clip_norm)


class Lab:
    """One model in training on one task at one length; batch i of a seed is always the same.

    ``steps`` updates have been taken. All sequences have one length, so the packed rows of a batch
    are its steps one after the other, and one packing serves for all batches.
    """

    def __init__(
        self,
        task: Task,
        variant: Variant,
        length: int,
        seed: int,
        config: LabConfig,
        backend: Backend,
    ) -> None:
        self.task, self.length, self.config, self.backend = task, length, config, backend
        backend.keep_memory()
        self.random = Random(seed, f"lab.{task.name}.{length}")
        model = SequenceConfig(
            input_size=task.input_size,
            output_size=task.output_size,
            hidden_size=config.hidden_size,
            read=task.read,
            **variant.encoder,
        )
        random = Random(seed, "model")
        self.model = SequenceModel(model, backend=backend, random=random)
        variant.initialize(self.model.encoder, length, random.child("initialization"))
        self.criterion: Any = CRITERIA[task.loss](backend=backend)
        rate = config.learning_rate if variant.learning_rate is None else variant.learning_rate
        self.optimizer = Adam(self.model.flat, backend, rate)
        lengths = np.full(config.batch_size, task.steps(length))
        self.packing = Packing.of(lengths, backend)

    @property
    def steps(self) -> int:
        """How many updates have been taken."""
        return self.optimizer.steps

    def step(self) -> Array:
        """One update: forward, loss, backward, clip, Adam; the loss."""
        self.model.zero_grads()
        loss = self.backward(self.random.child("train").at(self.steps))
        clip_grad_norm(self.model.flat.grads, self.config.clip_norm, self.backend)
        self.optimizer.step()
        return loss

    def backward(self, random: Random, probe: Any = None) -> Array:
        """Forward, loss and backward on one batch; the loss. Adds gradients, updates nothing."""
        x, targets = self.batch(random)
        y, cache = self.model.run(x, packing=self.packing)
        loss: Array
        loss, errors = self.criterion.run(y, targets)
        self.model.undo(self.criterion.undo(1.0, errors), cache, probe)
        return loss

    def check(self) -> float:
        """The loss on fresh sequences, new ones at each check; infinite where it is not finite."""
        random = self.random.child("check").at(self.steps)
        count = -(-self.config.check_size // self.config.batch_size)
        total = 0.0
        for i in range(count):
            x, targets = self.batch(random.child(str(i)))
            y, _ = self.model.run(x, packing=self.packing)
            loss, _ = self.criterion.run(y, targets)
            total += float(loss) / count
        return total if math.isfinite(total) else math.inf

    def run(self, on_check: Callable[[int, float], None] = lambda steps, loss: None) -> float:
        """Train until solved, out of budget or no longer finite; the loss of the last check.

        ``on_check`` gets the steps taken and the loss at every check.
        """
        loss = math.inf
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            while self.steps < self.config.budget:
                self.step()
                if self.steps % self.config.check_every and self.steps < self.config.budget:
                    continue
                loss = self.check()
                on_check(self.steps, loss)
                if self.task.solved(self.length, loss) or not math.isfinite(loss):
                    break
        return loss

    def batch(self, random: Random) -> tuple[Array, Array]:
        """Packed rows ``(N, D)`` and targets, on the backend."""
        x, targets = self.task.batch(self.length, self.config.batch_size, random)
        if self.task.read == "each":
            targets = targets.reshape(-1, *targets.shape[2:])
        dtype = self.model.dtype if self.task.loss == "mse" else None
        rows = x.reshape(-1, x.shape[2])
        return (
            self.backend.asarray(rows, dtype=self.model.dtype),
            self.backend.asarray(targets, dtype=dtype),
        )


def train_on(
    task: str,
    length: int,
    seed: int,
    config: LabConfig,
    backend: Backend,
    variant: str = DEFAULT_VARIANT,
    on_check: Callable[[int, float], None] = lambda steps, loss: None,
) -> dict[str, Any]:
    """Train one model; a row of the table.

    Raises :class:`InputError` for a task or a variant that is not known, or that do not fit.
    """
    for kind, name, known in (("task", task, list(TASKS)), ("variant", variant, list(VARIANTS))):
        if name not in known:
            raise InputError(f"{kind} {name!r} is not known; choose from {', '.join(known)}")
    reason = VARIANTS[variant].mismatch(TASKS[task])
    if reason is not None:
        raise InputError(f"variant {variant!r} does not fit: {reason}")
    started = time.perf_counter()
    lab = Lab(TASKS[task], VARIANTS[variant], length, seed, config, backend)
    loss = lab.run(on_check)
    return {
        "task": task,
        "recipe": variant,
        "T": length,
        "seed": seed,
        "steps": lab.steps,
        "solved": lab.task.solved(length, loss),
        "loss": loss,
        "baseline": lab.task.baseline(length),
        "seconds": round(time.perf_counter() - started, 2),
    }


def outcome(solved: Sequence[bool], seeds: int) -> bool | None:
    """Whether most of ``seeds`` solve a length, from those that were run; None while it is open."""
    if 2 * sum(solved) > seeds:
        return True
    return False if 2 * (seeds - len(solved) + sum(solved)) <= seeds else None


def horizons(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The memory horizon of each (task, variant): the largest T that most seeds have solved.

    0 where there is none; ``largest`` is the largest T that was tried.
    """
    table = []
    for task, variant in dict.fromkeys((row["task"], row["recipe"]) for row in rows):
        solved: dict[int, list[bool]] = {}
        for row in rows:
            if (row["task"], row["recipe"]) == (task, variant):
                solved.setdefault(row["T"], []).append(bool(row["solved"]))
        most = [T for T, of_seeds in solved.items() if 2 * sum(of_seeds) > len(of_seeds)]
        horizon, largest = max(most, default=0), max(solved)
        table.append({"task": task, "recipe": variant, "horizon": horizon, "largest": largest})
    return table


def verdict(table: Sequence[Mapping[str, Any]]) -> str:
    """One sentence on the horizons: for each task which variant remembers longest, and how far."""
    parts = []
    for task in dict.fromkeys(row["task"] for row in table):
        of_task = [row for row in table if row["task"] == task]
        far = max(row["horizon"] for row in of_task)
        first = [row["recipe"] for row in of_task if row["horizon"] == far]
        if far == 0:
            parts.append(f"{task} was solved by none")
        else:
            limit = ", the largest tried" if far == max(row["largest"] for row in of_task) else ""
            parts.append(f"{task} by {' and '.join(first)} (T = {far}{limit})")
    return f"Solved furthest back: {'; '.join(parts)}."
