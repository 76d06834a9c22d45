"""The training loop: forward, loss, backward, clip, step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Random
from npnlp.classifier.batches import bucketed
from npnlp.classifier.evaluation import evaluate
from npnlp.classifier.flow import WIDTH, flow_layers, flow_rows, layer_of, thinned
from npnlp.errors import DivergenceError, InputError
from npnlp.gradients.flow import gradient_flow
from npnlp.layers import SoftmaxCrossEntropy
from npnlp.models import SurnameClassifier
from npnlp.text import SplitArrays
from npnlp.text.repeats import merged
from npnlp.training.captured import CapturedSteps, captured_steps
from npnlp.training.clipping import clip_grad_norm, clipped, squared_norms
from npnlp.training.config import TrainingConfig
from npnlp.training.distributed.shared import ALONE, Alone, AnyBatch
from npnlp.training.objective import Objective, PlainObjective, SoftObjective
from npnlp.training.optimizers import SAFE_RATE, make_optimizer
from npnlp.training.progress import Progress
from npnlp.training.schedule import EarlyStopping, ReduceLROnPlateau, one_cycle

#: What is noted of every batch, before the squared gradient norm of each parameter.
LOGGED = ("loss_sum", "weight_sum", "correct", "grad_norm")


class Trainer:
    """Trains a model on a split and watches another.

    All state is in ``model``, ``optimizer``, ``schedule``, ``stopper``, ``best``, ``log`` and
    ``progress``; shuffles and dropout masks are functions of (seed, epoch, step). So
    :meth:`state` at any batch, given to :meth:`load_state` of a new trainer, continues to the
    same bits. ``ranks`` share every batch (:mod:`npnlp.training.distributed.shared`).
    """

    def __init__(
        self,
        model: SurnameClassifier,
        train: SplitArrays,
        val: SplitArrays,
        config: TrainingConfig,
        class_weights: NDArray[np.float64] | None = None,
        ranks: Alone = ALONE,
    ) -> None:
        backend, dtype, classes = model.backend, model.dtype, model.config.num_classes
        backend.keep_memory()
        self.ranks = ranks
        self.train = merged(train, classes) if config.merge_repeats else train
        self.model, self.val, self.config = model, val, config
        counts = np.maximum(np.bincount(train.targets, minlength=classes), 1)
        self.log_prior = np.log(counts / counts.sum())
        weights = None if class_weights is None else backend.asarray(class_weights, dtype=dtype)
        self.criterion = SoftmaxCrossEntropy(weights, backend=backend, dtype=dtype)
        self.objective: Objective = PlainObjective(self.criterion)
        if config.soft:
            self.objective = SoftObjective(
                model, self.log_prior, smoothing=config.label_smoothing,
                adjustment=config.logit_adjustment, consistency=config.consistency,
            )  # fmt: skip
        self.objective = ranks.objective(self.objective)
        self.optimizer = make_optimizer(
            config.optimizer, model.flat, backend, config.learning_rate, **config.optimizer_options
        )
        self.schedule = ReduceLROnPlateau(config.learning_rate)
        self.stopper = EarlyStopping(config.early_stopping_criteria)
        self.best = model.state_dict()
        self.progress = Progress()
        self.random = Random(config.seed, "training")
        self.flow_layers = flow_layers(model)
        self.flow = np.empty((0, WIDTH))
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

    @cached_property
    def captured(self) -> CapturedSteps | None:
        """The steps on a device, each a single launch; None where there is no device for that."""
        return captured_steps(self)

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
        order = self._order(self.random.child("shuffle").at(progress.epoch))
        started = time.perf_counter()
        if self.captured is not None:
            rows = self.captured.run(order, on_batch)
        else:
            rows = self._run_batches(order, on_batch)
        self.model.backend.synchronize()
        seconds = time.perf_counter() - started
        row = self._finish_epoch(seconds, rows)
        progress.history.append(row)
        progress.epoch += 1
        progress.batch = 0
        return row

    def _run_batches(self, order: NDArray[np.int64], on_batch: Callable[[], None]) -> int:
        """The epoch from ``progress.batch`` on; how many rows of the split that were."""
        progress, size, rows = self.progress, self.config.batch_size, 0
        probed = self.probed_batch if self.config.gradient_flow else None
        for batch in self.ranks.batches(
            self.train, order, size, self.model.backend, progress.batch, probed
        ):
            self.step(batch)
            rows += len(batch.rows)
            progress.batch += 1
            on_batch()
        return rows

    def _order(self, random: Random) -> NDArray[np.int64]:
        """In which order an epoch takes the rows."""
        order, config = random.permutation(len(self.train)), self.config
        if not config.bucket:
            return order
        lengths, buckets = self.train.lengths, random.child("buckets")
        return bucketed(order, lengths, config.batch_size, config.bucket, buckets)

    def begin_from_here(self) -> None:
        """Take the model's weights as the best so far: only better ones will replace them.

        Raises :class:`InputError` where the weights would be corrected for class shares once more.
        """
        if self.config.prior_correction:
            raise InputError(
                f"prior_correction is {self.config.prior_correction}: weights of a finished run "
                "would be corrected twice; leave it out"
            )
        self.best = self.model.state_dict()
        self.stopper.best = evaluate(self.model, self.val, self.criterion).loss

    def step(self, batch: AnyBatch) -> None:
        """One update of the weights."""
        model, flat = self.model, self.model.flat
        random = self.random.at(self.optimizer.steps)
        probed = self.config.gradient_flow and self.progress.batch == self.probed_batch
        traces: list[Any] = []
        found = self.objective(model, batch, random, traces.append if probed else None)
        squares = squared_norms(flat, model.backend)
        norm = clip_grad_norm(flat.grads, self.config.clip_norm, model.backend)
        self._require_finite(batch, found.loss_sum, norm)
        if traces:
            flows = {layer_of(trace): gradient_flow(trace) for trace in reversed(traces)}
            rows = flow_rows(flows, self.flow_layers, self.progress.epoch)
            self.flow = thinned(np.concatenate([self.flow, rows]), self.progress.epoch)
        self.optimizer.learning_rate = self.rate_of(self.optimizer.steps)
        self.optimizer.step()
        row = self.log[self.progress.batch]
        row[0] = found.loss_sum
        row[1] = found.weight_sum
        row[2] = found.correct
        row[3] = norm
        row[len(LOGGED) :] = squares

    def rate_of(self, step: int) -> float:
        """The learning rate of the step that has so many before it."""
        if self.config.schedule != "onecycle":
            return self.optimizer.learning_rate
        share = step / (self.batches_per_epoch * self.config.num_epochs)
        return self.config.learning_rate * one_cycle(share, self.config.warm_up)

    def _require_finite(self, batch: AnyBatch, loss: Array, norm: Array) -> None:
        """Raise :class:`DivergenceError` where a number of the step to be taken is not finite.

        A number that is not finite spreads: into the loss, into the squares of the gradient, or
        (where ReLU hides it) nowhere but into those of the weights. A single test sees all three.
        Squares that overflow are looked into like the rest, and a false alarm changes nothing.
        """
        weights = self.model.flat.values
        tested = loss + norm + self.model.backend.xp.dot(weights, weights)
        momentum, rate = self.config.momentum, self.optimizer.learning_rate
        suspicious = not math.isfinite(tested) or rate > SAFE_RATE * (1 - momentum)
        if suspicious and self.config.soft:
            place = f"epoch {self.progress.epoch + 1}, batch {self.progress.batch + 1}"
            raise DivergenceError(
                f"{place}: loss {float(loss)}, gradient norm {float(norm)}, rate {rate}: a number "
                "is not finite, or would not be after the step; lower --learning-rate or set "
                "--clip-norm"
            )
        if suspicious:
            from npnlp.diagnosis.finding import examine  # it imports this file

            examine(self, batch.rows, float(loss), float(norm))

    def _finish_epoch(self, seconds: float, rows: int) -> dict[str, float]:
        log = self.model.backend.to_numpy(self.log)
        loss_sum, weight_sum, correct, _ = log[:, : len(LOGGED)].sum(axis=0)
        epoch = self.progress.epoch
        val = evaluate(self.model, self.val, self.criterion, self.ranks).metrics
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
            from npnlp.diagnosis.finding import examine_validation  # it imports this file

            examine_validation(self)
            raise DivergenceError(f"epoch {epoch + 1}: loss is {row['val_loss']} on val")
        last = self.config.schedule == "onecycle"
        if self.stopper.step(row["val_loss"]) or last:
            self.best = self.model.state_dict()
            self.progress.best_epoch = epoch
        if not last:
            self.optimizer.learning_rate = self.schedule.step(row["val_loss"])
            self.progress.stopped_early = self.stopper.stop
        return row

    def finish(self) -> None:
        """Give the model its best weights, and the correction for the classes' shares, if any."""
        self.model.load_state_dict(self.best)
        if self.config.prior_correction:
            taken = self.config.prior_correction * self.log_prior
            bias = self.model.fc2.parameters["bias"]
            bias -= self.model.backend.asarray(taken, dtype=self.model.dtype)

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
