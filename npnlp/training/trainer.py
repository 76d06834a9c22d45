"""Training, epoch after epoch: its steps, an evaluation, and the best weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Random
from npnlp.backend.threads import in_one_blas_thread
from npnlp.classifier.batches import bucketed, by_length
from npnlp.classifier.evaluation import Evaluation, evaluation_of, partial_sums
from npnlp.classifier.weights import rounded_to_half
from npnlp.errors import DivergenceError, InputError
from npnlp.files.tensors import below
from npnlp.models import SurnameClassifier
from npnlp.text import SplitArrays
from npnlp.training.captured import CapturedSteps, captured_steps
from npnlp.training.config import TrainingConfig
from npnlp.training.history import Progress
from npnlp.training.ranks import ALONE, Alone
from npnlp.training.recorder import means_of
from npnlp.training.schedule import EarlyStopping, ReduceLROnPlateau
from npnlp.training.step_record import Examine
from npnlp.training.typing_errors import with_typing_errors
from npnlp.training.updater import Updater


class Trainer(Updater):
    """Trains a model on a split and watches another.

    All state is in ``model``, ``optimizer``, ``schedule``, ``stopper``, ``best``, ``log``, ``flow``
    and ``progress``; shuffles and dropout masks are functions of (seed, epoch, step). So
    :meth:`state` at any batch, given to :meth:`load_state` of a new trainer, continues to the
    same bits. For ``ranks`` and ``examine`` see :class:`Updater`.
    """

    def __init__(
        self,
        model: SurnameClassifier,
        train: SplitArrays,
        val: SplitArrays,
        config: TrainingConfig,
        class_weights: NDArray[np.float64] | None = None,
        ranks: Alone = ALONE,
        examine: Examine | None = None,
    ) -> None:
        super().__init__(model, train, config, class_weights, ranks, examine)
        self.val = self.splits["val"] = val
        self.schedule = ReduceLROnPlateau(config.learning_rate)
        self.stopper = EarlyStopping(config.early_stopping_criteria)
        self.best = model.state_dict()

    @cached_property
    def captured(self) -> CapturedSteps | None:
        """The steps on a device, each a single launch; None where there is no device for that."""
        return captured_steps(self)

    def __getstate__(self) -> dict[str, Any]:
        """All but the captured steps, which a copy captures anew, with arrays of its own."""
        return {name: value for name, value in vars(self).items() if name != "captured"}

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the validation loss has stopped falling."""
        return self.progress.stopped_early or self.progress.epoch >= self.config.num_epochs

    @in_one_blas_thread
    def run_epoch(self, on_batch: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Train for an epoch (the rest of one, after a resume) and evaluate; the history's row.

        ``on_batch`` is called after every step, when :meth:`state` may be taken; what it raises
        ends the epoch there. Raises :class:`DivergenceError` where a number is not finite, before
        it changes the weights.
        """
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # said in one line
            order = self.order_of(self.progress.epoch)
            self.splits["train"] = self._with_errors()
            started = time.perf_counter()
            run = self.run_batches if self.captured is None else self.captured.run
            rows = run(order, on_batch)
            self.model.backend.synchronize()
            return self.end_epoch(time.perf_counter() - started, rows, self.evaluate(self.val))

    def end_epoch(self, seconds: float, rows: int, val: Evaluation) -> dict[str, float]:
        """Take note of an epoch on ``rows`` rows that came to ``val``; the history's row."""
        row = self._finish_epoch(seconds, rows, val.metrics)
        self.progress.history.append(row)
        self.progress.epoch += 1
        self.progress.batch = 0
        return row

    def run_batches(self, order: NDArray[np.int64], on_batch: Callable[[], None]) -> int:
        """Train from batch ``progress.batch`` on; the number of rows that were trained on."""
        progress, size, rows = self.progress, self.config.batch_size, 0
        for batch in self.ranks.batches(
            self.splits["train"], order, size, self.model.backend, progress.batch, self.probed_batch
        ):
            self.step(batch)
            rows += len(batch.rows)
            progress.batch += 1
            on_batch()
        return rows

    def _with_errors(self) -> SplitArrays:
        """The rows of train as this epoch reads them."""
        if not (fraction := self.config.typing_errors):
            return self.train
        random = self.random.child("typing errors").at(self.progress.epoch)
        return with_typing_errors(self.train, fraction, random)

    def order_of(self, epoch: int) -> NDArray[np.int64]:
        """The order of the rows in an epoch."""
        return self._order(self.random.child("shuffle").at(epoch))

    def _order(self, random: Random) -> NDArray[np.int64]:
        """The order of the rows in an epoch."""
        order, config = random.permutation(len(self.train)), self.config
        if not config.bucket:
            return order
        lengths, buckets = self.train.lengths, random.child("buckets")
        return bucketed(order, lengths, config.batch_size, config.bucket, buckets)

    def evaluate(self, split: SplitArrays) -> Evaluation:
        """Loss and predictions of every row of ``split``; the ranks take the batches in turn."""
        self.optimizer.flush()
        parts = partial_sums(self.model, split, self.criterion, self.ranks.rank, self.ranks.size)
        return evaluation_of(split, self.model.config.num_classes, *self.ranks.together(*parts))

    def _finish_epoch(
        self, seconds: float, rows: int, val: dict[str, float]
    ) -> dict[str, float]:  # fmt: skip
        """Keep the best weights, set the next rate; the history's row."""
        epoch, config = self.progress.epoch, self.config
        log = self.model.backend.to_numpy(self.log)
        means = means_of(log, list(self.model.flat.parameters), len(self.train), config.clip_norm)
        row = {
            "epoch": epoch,
            "learning_rate": self.optimizer.learning_rate,
            "train_loss": means.pop("train_loss"),
            "train_accuracy": means.pop("train_accuracy"),
            "val_loss": val["loss"],
            "val_accuracy": val["accuracy"],
            "val_macro_f1": val["macro_f1"],
            **means,
            "seconds": seconds,
            "names_per_second": rows / seconds,
        }
        if not math.isfinite(row["train_loss"]) or not math.isfinite(row["val_loss"]):
            self._look_into_validation()
            raise DivergenceError(f"epoch {epoch + 1}: loss is {row['val_loss']} on val")
        last = config.by_step
        if self.stopper.step(row["val_loss"]) or last:
            self.best = self.model.state_dict()
            self.progress.best_epoch = epoch
        if not last:
            self.optimizer.learning_rate = self.schedule.step(row["val_loss"])
            self.progress.stopped_early = self.stopper.stop
        return row

    def _look_into_validation(self) -> None:
        """Have the forward passes of :meth:`evaluate` examined, in their order."""
        if self.examine is None:
            return
        backend = self.model.backend
        for number, batch in enumerate(by_length(self.val, backend), start=1):
            self.examine(self.record(batch.rows, "val", number), backend, {})

    def begin_from_here(self) -> None:
        """Take the model's weights as the best so far: only better ones will replace them.

        Raises :class:`InputError` with ``prior_correction``, which they may have had already.
        """
        if self.config.prior_correction:
            raise InputError(
                f"prior_correction is {self.config.prior_correction}: weights of a finished run "
                "would be corrected twice; leave it out"
            )
        self.best = self.model.state_dict()
        self.stopper.best = self.evaluate(self.val).loss

    def finish(self) -> None:
        """Give the model its best weights, apply the ``prior_correction``, if any, and ``store``.

        Rounding comes last, so that what is evaluated is what the file holds.
        """
        self.optimizer.flush()
        self.model.load_state_dict(self.best)
        if self.config.prior_correction:
            taken = self.config.prior_correction * self.log_prior
            bias = self.model.fc2.parameters["bias"]
            bias -= self.model.backend.asarray(taken, dtype=self.model.dtype)
        if self.config.store == "float16":
            values = self.model.flat.values
            values[...] = rounded_to_half(values, self.model.backend.xp)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything that :meth:`load_state` needs: tensors, and plain values.

        In the middle of an epoch, rows of large tables may be behind by the steps in ``missed``.
        """
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= {f"optimizer.{n}": v for n, v in self.optimizer.state_dict().items()}
        tensors |= {f"missed.{n}": v for n, v in self.optimizer.missed.items()}
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
        self.model.load_state_dict(below(tensors, "model."))
        self.best = below(tensors, "best.")
        self.optimizer.load_state_dict(below(tensors, "optimizer."), values["steps"])
        self.optimizer.learning_rate = values["learning_rate"]
        self.optimizer.load_missed(below(tensors, "missed."), self.rate_of)
        self.log[...] = self.model.backend.asarray(tensors["log"])
        self.flow = tensors["flow"]
        self.schedule = ReduceLROnPlateau(**values["schedule"])
        patience = self.config.early_stopping_criteria
        self.stopper = EarlyStopping(**values["stopper"] | {"patience": patience})
        self.progress = Progress(**values["progress"])
        # With more patience than it had, a run that has stopped goes on.
        self.progress.stopped_early &= self.stopper.stop
