"""The training loop: forward, loss, backward, clip, step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Random
from npnlp.errors import DivergenceError, InputError
from npnlp.gradients.flow import COLUMNS, gradient_flow
from npnlp.layers import SoftmaxCrossEntropy
from npnlp.layers.recurrent import RecurrentTrace
from npnlp.models import SurnameClassifier
from npnlp.text import SplitArrays
from npnlp.training.batches import Batch, batches
from npnlp.training.clipping import clip_grad_norm, clipped, squared_norms
from npnlp.training.evaluate import evaluate
from npnlp.training.optimizers import make_optimizer
from npnlp.training.schedule import EarlyStopping, ReduceLROnPlateau
from npnlp.training.settings import require_at_least_one, require_positive

#: With finite squares of weights and gradient, no update at a rate up to this can overflow: in
#: float32 such numbers are below 2e19, and this times that is below the largest, 3e38.
SAFE_RATE = 1e18
#: What is noted of every batch, before the squared gradient norm of each parameter.
LOGGED = ("loss_sum", "weight_sum", "correct", "grad_norm")


@dataclass(frozen=True)
class TrainingConfig:
    """What decides the course of a training run, besides the model and the data."""

    num_epochs: int = 100
    learning_rate: float = 1e-3
    batch_size: int = 64
    seed: int = 1337
    early_stopping_criteria: int = 5
    class_weights: str = "none"
    optimizer: str = "adam"
    momentum: float = 0.0
    clip_norm: float | None = None
    gradient_flow: bool = True

    def __post_init__(self) -> None:
        require_at_least_one(self, "num_epochs", "batch_size", "early_stopping_criteria")
        require_positive(self, "learning_rate", "clip_norm")
        if self.optimizer == "adam" and self.momentum:
            raise InputError(f"momentum is {self.momentum}, but adam has none; use optimizer sgd")


@dataclass
class Progress:
    """Where a run stands; plain values, so that a checkpoint can hold them."""

    epoch: int = 0
    batch: int = 0
    stopped_early: bool = False
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """Trains a model on a split and watches another.

    All state is in ``model``, ``optimizer``, ``schedule``, ``stopper``, ``best``, ``log`` and
    ``progress``; shuffles and dropout masks are functions of (seed, epoch, step). So
    :meth:`state` at any batch, given to :meth:`load_state` of a new trainer, continues to the
    same bits.
    """

    def __init__(
        self,
        model: SurnameClassifier,
        train: SplitArrays,
        val: SplitArrays,
        config: TrainingConfig,
        class_weights: NDArray[np.float64] | None = None,
    ) -> None:
        self.model, self.train, self.val, self.config = model, train, val, config
        backend, dtype = model.backend, model.dtype
        weights = None if class_weights is None else backend.asarray(class_weights, dtype=dtype)
        self.criterion = SoftmaxCrossEntropy(weights, backend=backend, dtype=dtype)
        self.optimizer = make_optimizer(
            config.optimizer, model.flat, backend, config.learning_rate, config.momentum
        )
        self.schedule = ReduceLROnPlateau(config.learning_rate)
        self.stopper = EarlyStopping(config.early_stopping_criteria)
        self.best = model.state_dict()
        self.progress = Progress()
        self.random = Random(config.seed, "training")
        self.flow = np.empty((0, 1 + len(COLUMNS)))
        columns = len(LOGGED) + len(model.flat.parameters)
        self.log = backend.zeros((self.batches_per_epoch, columns), np.float64)

    @property
    def batches_per_epoch(self) -> int:
        """How many batches the training split makes; the last may be smaller."""
        return -(-len(self.train) // self.config.batch_size)

    @property
    def probed_batch(self) -> int:
        """The batch of each epoch whose gradient flow is kept: the last whole one."""
        return max(len(self.train) // self.config.batch_size - 1, 0)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the validation loss has stopped falling."""
        return self.progress.stopped_early or self.progress.epoch >= self.config.num_epochs

    def run_epoch(self, on_batch: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Train for an epoch (the rest of one, after a resume) and evaluate; the history's row.

        ``on_batch`` is called after every step, when :meth:`state` is whole; what it raises ends
        the epoch there. Raises :class:`DivergenceError` where a number is not finite, before it
        changes the weights.
        """
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # said in one line
            return self._run_epoch(on_batch)

    def _run_epoch(self, on_batch: Callable[[], None]) -> dict[str, float]:
        progress = self.progress
        order = self.random.child("shuffle").at(progress.epoch).permutation(len(self.train))
        started, rows = time.perf_counter(), 0
        for batch in batches(
            self.train, order, self.config.batch_size, self.model.backend, progress.batch
        ):
            self.step(batch)
            rows += len(batch.rows)
            progress.batch += 1
            on_batch()
        self.model.backend.synchronize()
        seconds = time.perf_counter() - started
        row = self._finish_epoch(seconds, rows)
        progress.history.append(row)
        progress.epoch += 1
        progress.batch = 0
        return row

    def begin_from_here(self) -> None:
        """Take the model's weights as the best so far: only better ones will replace them."""
        self.best = self.model.state_dict()
        self.stopper.best = evaluate(self.model, self.val, self.criterion).loss

    def step(self, batch: Batch) -> None:
        """One update of the weights."""
        model, flat = self.model, self.model.flat
        random = self.random.at(self.optimizer.steps)
        logits, cache = model.forward(**batch.inputs, random=random)
        _, loss = self.criterion.forward(logits, batch.targets)
        model.zero_grads()
        probed = self.config.gradient_flow and self.progress.batch == self.probed_batch
        traces: list[RecurrentTrace] = []
        d_logits = self.criterion.backward(1.0, loss)
        model.backward(d_logits, cache, traces.append if probed else None)
        squares = squared_norms(flat, model.backend)
        norm = clip_grad_norm(flat.grads, self.config.clip_norm, model.backend)
        self._require_finite(batch, loss.loss_sum, norm)
        for trace in traces:
            self._keep_flow(trace)
        self.optimizer.step()
        row = self.log[self.progress.batch]
        row[0] = loss.loss_sum
        row[1] = loss.weight_sum
        row[2] = (logits.argmax(axis=1) == batch.targets).sum()
        row[3] = norm
        for column, value in enumerate(squares, start=len(LOGGED)):
            row[column] = value

    def _require_finite(self, batch: Batch, loss: Array, norm: Array) -> None:
        """Raise :class:`DivergenceError` where a number of the step to be taken is not finite.

        A number that is not finite spreads: into the loss, into the squares of the gradient, or
        (where ReLU hides it) nowhere but into those of the weights. A single test sees all three.
        Squares that overflow are looked into like the rest, and a false alarm changes nothing.
        """
        weights = self.model.flat.values
        tested = loss + norm + self.model.backend.xp.dot(weights, weights)
        momentum, rate = self.config.momentum, self.optimizer.learning_rate
        if not math.isfinite(tested) or rate > SAFE_RATE * (1 - momentum):
            from npnlp.training.blackbox import examine  # it imports this file

            examine(self, batch.rows, float(loss), float(norm))

    def _keep_flow(self, trace: RecurrentTrace) -> None:
        """Add the gradient flow of this batch to ``flow``: the epoch, then ``COLUMNS``, by lag."""
        table = gradient_flow(self.model.rnn, trace).table()
        epoch = np.full((len(table), 1), self.progress.epoch)
        self.flow = np.concatenate([self.flow, np.hstack([epoch, table])])

    def _finish_epoch(self, seconds: float, rows: int) -> dict[str, float]:
        log = self.model.backend.to_numpy(self.log)
        loss_sum, weight_sum, correct, _ = log[:, : len(LOGGED)].sum(axis=0)
        epoch = self.progress.epoch
        val = evaluate(self.model, self.val, self.criterion).metrics
        row = {
            "epoch": epoch,
            "learning_rate": self.optimizer.learning_rate,
            "train_loss": float(loss_sum / weight_sum),
            "train_accuracy": float(correct / len(self.train)),
            "val_loss": val["loss"],
            "val_accuracy": val["accuracy"],
            "val_macro_f1": val["macro_f1"],
            "grad_norm": float(log[:, 3].mean()),
            "grad_norm_clipped": float(clipped(log[:, 3], self.config.clip_norm).mean()),
            "grad_norm_max": float(log[:, 3].max()),
            **{
                f"grad_norm.{name}": float(np.sqrt(log[:, column]).mean())
                for column, name in enumerate(self.model.flat.parameters, start=len(LOGGED))
            },
            "seconds": seconds,
            "names_per_second": rows / seconds,
        }
        if not math.isfinite(row["train_loss"]) or not math.isfinite(row["val_loss"]):
            from npnlp.training.blackbox import examine_validation  # it imports this file

            examine_validation(self)
            raise DivergenceError(f"epoch {epoch + 1}: loss is {row['val_loss']} on val")
        if self.stopper.step(row["val_loss"]):
            self.best = self.model.state_dict()
            self.progress.best_epoch = epoch
        self.optimizer.learning_rate = self.schedule.step(row["val_loss"])
        self.progress.stopped_early = self.stopper.stop
        return row

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything that :meth:`load_state` needs: tensors, and plain values."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= {f"optimizer.{n}": v for n, v in self.optimizer.state_dict().items()}
        tensors["log"] = self.model.backend.to_numpy(self.log).copy()
        tensors["flow"] = self.flow
        values = {
            "steps": self.optimizer.steps,
            "learning_rate": self.optimizer.learning_rate,
            "schedule": asdict(self.schedule),
            "stopper": asdict(self.stopper),
            "progress": asdict(self.progress),
        }
        return tensors, values

    def load_state(self, tensors: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> None:
        """Continue where :meth:`state` was taken."""

        def below(prefix: str) -> dict[str, NDArray[Any]]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.model.load_state_dict(below("model."))
        self.best = below("best.")
        self.optimizer.load_state_dict(below("optimizer."), values["steps"])
        self.optimizer.learning_rate = values["learning_rate"]
        self.log[...] = self.model.backend.asarray(tensors["log"])
        self.flow = tensors["flow"]
        self.schedule = ReduceLROnPlateau(**values["schedule"])
        self.stopper = EarlyStopping(**values["stopper"])
        self.progress = Progress(**values["progress"])
