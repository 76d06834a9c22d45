"""One update of the weights: objective, norm, in doubt?, step, note."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Random
from npnlp.classifier.batches import Batch, require_split
from npnlp.classifier.building import make_criterion
from npnlp.classifier.flow import WIDTH, flow_layers
from npnlp.errors import DivergenceError
from npnlp.models import SurnameClassifier
from npnlp.text import SplitArrays
from npnlp.text.repeats import merged
from npnlp.training.clipping import clip_grad_norm, clip_rows, squared_norms
from npnlp.training.config import TrainingConfig
from npnlp.training.history import Progress
from npnlp.training.lazy import LEAST_BETA2, LEAST_SIZE, LazyAdam
from npnlp.training.objective import log_frequencies, make_objective
from npnlp.training.optimizers import SAFE_RATE, Optimizer, make_optimizer
from npnlp.training.ranks import ALONE, Alone, AnyBatch
from npnlp.training.recorder import LOGGED, add_flow, note_batch
from npnlp.training.schedule import cosine, one_cycle
from npnlp.training.step_record import Examine, Replay

#: The parameters that may be large tables, of which a batch reads few rows.
TABLES = EMBEDDING, NGRAMS = "emb.weight", "ngrams.weight"


class Updater:
    """Updates the weights, step after step; ``progress`` says which step is next.

    ``ranks`` share every batch (:mod:`npnlp.training.distributed.shared`). ``examine`` looks into a
    step where a number may not be finite; without it such a step ends the training.
    """

    def __init__(
        self,
        model: SurnameClassifier,
        train: SplitArrays,
        config: TrainingConfig,
        class_weights: NDArray[np.float64] | None = None,
        ranks: Alone = ALONE,
        examine: Examine | None = None,
    ) -> None:
        backend, classes = model.backend, model.config.num_classes
        backend.keep_memory()
        self.model, self.config, self.ranks, self.examine = model, config, ranks, examine
        require_split(train, model)
        self.train = merged(train, classes) if config.merge_repeats else train
        self.splits, self.given = {"train": self.train}, train
        self.log_prior = log_frequencies(train.targets, classes)
        self.criterion = make_criterion(model, class_weights)
        objective = make_objective(
            model, self.criterion, config, self.log_prior, self.train.weights is not None
        )
        self.objective = ranks.objective(objective)
        self.optimizer = self._make_optimizer()
        self.random = Random(config.seed, "training")
        self.progress = Progress()
        self.flow_layers = flow_layers(model)
        self.flow = np.empty((0, WIDTH))
        columns = len(LOGGED) + len(model.flat.parameters)
        self.log = backend.zeros((self.batches_per_epoch, columns), np.float64)

    def _make_optimizer(self) -> Optimizer:
        """Adam has the rows of large tables catch up, in a process of its own and on a CPU."""
        model, config = self.model, self.config
        flat, backend, rate = model.flat, model.backend, config.learning_rate
        sizes = {name: value.size for name, value in model.parameters.items()}
        tables = [name for name in TABLES if sizes.get(name, 0) >= LEAST_SIZE]
        alone = self.ranks.size == 1 and backend.row_adam(flat.values.dtype) is not None
        if tables and alone and config.optimizer == "adam" and config.beta2 >= LEAST_BETA2:
            betas, decay = (0.9, config.beta2), config.weight_decay
            return LazyAdam(flat, backend, rate, tables, betas=betas, weight_decay=decay)
        return make_optimizer(config.optimizer, flat, backend, rate, **config.optimizer_options)

    @property
    def batches_per_epoch(self) -> int:
        """How many batches the training split makes; the last may be smaller."""
        return -(-len(self.train) // self.config.batch_size)

    @property
    def probed_batch(self) -> int | None:
        """The batch of each epoch whose gradient flow is recorded: the last full one, or none."""
        if not self.config.gradient_flow:
            return None
        return max(len(self.train) // self.config.batch_size - 1, 0)

    def step(self, batch: AnyBatch) -> None:
        """One update of the weights.

        Raises :class:`DivergenceError` where a number is not finite, before it changes the weights.
        """
        rows: dict[str, Array] = {}
        if self.optimizer.tables and isinstance(batch, Batch):
            batch, rows = self._rows_of(batch)
        with self.optimizer.reading(rows):
            self._step(batch)

    def _rows_of(self, batch: Batch) -> tuple[Batch, dict[str, Array]]:
        """``batch`` with its n-grams found, and the rows that it reads of each large table."""
        model, rows = self.model, {}
        if EMBEDDING in self.optimizer.tables:
            dropped = [model.config.unk_idx]  # what a character is read as that is dropped
            rows[EMBEDDING] = np.union1d(batch.vocabulary, dropped)
        if NGRAMS in self.optimizer.tables and model.ngrams is not None:
            found = model.ngrams.find(batch.vocabulary.take(batch.tokens), batch.packing)
            batch = batch._replace(ngrams=found)
            rows[NGRAMS] = np.unique(found.rows[found.known])
        return batch, rows

    def _step(self, batch: AnyBatch) -> None:
        model, progress = self.model, self.progress
        random = self.random.at(self.optimizer.steps)
        traces: list[Any] = []
        probe = traces.append if progress.batch == self.probed_batch else None
        found = self.objective(model, batch, random, probe)
        squares = squared_norms(model.flat, model.backend)
        if model.flat.rows:
            norm = clip_rows(model.flat, squares, self.config.clip_norm)
        else:
            norm = clip_grad_norm(model.flat.grads, self.config.clip_norm, model.backend)
        if self._in_doubt(found.loss_sum, norm):
            self._look_into(batch, float(found.loss_sum), float(norm))
        if traces:
            self.flow = add_flow(self.flow, traces, self.flow_layers, progress.epoch)
        self.optimizer.learning_rate = self.rate_of(self.optimizer.steps)
        self.optimizer.step()
        note_batch(self.log[progress.batch], found, norm, squares)

    def rate_of(self, step: int) -> float:
        """The learning rate of the step that ``step`` others have gone before."""
        config = self.config
        if not config.by_step:
            return self.optimizer.learning_rate
        steps = self.batches_per_epoch * config.num_epochs
        if config.schedule == "onecycle":
            return config.learning_rate * one_cycle(step, steps, config.rise)
        return config.learning_rate * cosine(step / steps, config.rise)

    def _in_doubt(self, loss: Array, norm: Array) -> bool:
        """Whether a number of the step to be taken may not be finite.

        A number that is not finite spreads: into the loss, into the squares of the gradient, or
        (where ReLU hides it) nowhere but into those of the weights. A single test sees all three.
        Squares may overflow where no number does: then the alarm is false. Rows of a large table
        that a batch does not read are tested in the last batch of an epoch.
        """
        flat, dot = self.model.flat, self.model.backend.xp.dot
        if flat.rows and self.progress.batch + 1 < self.batches_per_epoch:
            parts = [part.reshape(-1) for part in flat.taken(flat.parameters).values()]
        else:
            parts = [flat.values]
        tested = loss + norm + sum(dot(part, part) for part in parts)
        rate, momentum = self.optimizer.learning_rate, self.config.momentum
        return not math.isfinite(tested) or rate > SAFE_RATE * (1 - momentum)

    def _look_into(self, batch: AnyBatch, loss: float, norm: float) -> None:
        """Raise :class:`DivergenceError`, unless ``examine`` finds all numbers finite."""
        number = self.progress.batch + 1
        if self.examine is not None:
            step = self.record(batch.rows, "train", number)
            self.examine(step, self.model.backend, {"loss": loss, "gradient norm": norm})
            return
        raise DivergenceError(
            f"epoch {self.progress.epoch + 1}, batch {number}: loss {loss}, gradient norm {norm}, "
            f"rate {self.optimizer.learning_rate}: a number is not finite, or would not be after "
            "the step; lower --learning-rate or set --clip-norm"
        )

    def record(self, rows: NDArray[np.int64], split: str, batch: int) -> Replay:
        """The record of a step on these rows of ``split``, a name of ``splits``.

        Of merged repeats it names the first row of each name.
        """
        data, weights = self.splits[split], self.criterion.class_weights
        self.optimizer.flush()
        ends = data.starts[rows] + data.lengths[rows]
        names = [data.tokens[a:b] for a, b in zip(data.starts[rows], ends, strict=True)]
        places = rows
        if data.shares is not None:
            places = np.flatnonzero(np.isin(self.given.starts, self.train.starts))[rows]
        return Replay(
            weights=self.model.state_dict(),
            moments=self.optimizer.state_dict(),
            class_weights=None if weights is None else self.model.backend.to_numpy(weights).copy(),
            tokens=np.concatenate(names, dtype=np.int64),
            lengths=data.lengths[rows],
            targets=data.targets[rows],
            rows=places,
            config=self.model.config,
            training=self.config,
            learning_rate=self.optimizer.learning_rate,
            steps=self.optimizer.steps,
            epoch=self.progress.epoch + 1,
            batch=batch,
            split=split,
            shares=None if data.shares is None else data.shares[rows],
            row_weights=None if data.weights is None else data.weights[rows],
            log_prior=self.log_prior if self.config.soft or data.weights is not None else None,
        )
