"""An epoch on a CUDA device: each step is one launch, and the host does not wait for any.

The split lies on the device; an epoch's order and rates are copied there once, before its first
step. A step packs its batch, goes forward and backward through the model's own layers, and updates
the weights (``backend/cuda/resident.py``, ``backend/cuda/update.py``). It is captured as a CUDA
graph (``backend/cuda/graphs.py``) for each shape: the number of sequences, and of packed rows that
there is room for.

A step that is not finite is noted on the device, and no later one changes the weights. The host
looks at the end of the epoch. It then goes back to that step and takes it as a CPU would, which
says where the number was; where all is finite after all, training goes on from there.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.cuda.update import RATES, DeviceUpdate
from npnlp.classifier.batches import batches
from npnlp.layers.attention.parts import WHOLE
from npnlp.layers.attention.transformer import TransformerEncoder
from npnlp.training.device_batches import DeviceBatches, Shape, capacity_for, longest_first
from npnlp.training.device_rule import decayed_by, rates_of, rule_of
from npnlp.training.optimizers import SAFE_RATE
from npnlp.training.updater import Updater


def obstacle(updater: Updater) -> str:
    """Why the steps of ``updater`` cannot be captured; empty where they can."""
    model, config = updater.model, updater.model.config
    if updater.ranks.size > 1:
        return "several processes share every batch"
    if rule_of(updater.optimizer) is None:
        return f"no kernel takes the steps of {type(updater.optimizer).__name__}"
    if isinstance(model.encoder.rnn, TransformerEncoder):
        longest = int(updater.train.lengths.max()) + bool(updater.config.typing_errors)
        weights = updater.config.batch_size * config.num_heads * longest**2
        return "attention over rows this long goes in parts" if weights > WHOLE else ""
    cells = model.encoder.cells
    passes = (model.backend.recurrent_passes(c.kind(), c.hidden_size, c.dtype) for c in cells)
    if not cells or any(found is None for found in passes):
        return f"no kernel runs this {config.cell}"
    return ""


def captured_steps(updater: Updater) -> CapturedSteps | None:
    """Captured steps of ``updater``; None where its backend has none, or, with a warning, where
    there is an obstacle.
    """
    graphs = updater.model.backend.graphs()
    if graphs is None:
        return None
    if why := obstacle(updater):
        if updater.ranks.first:
            warnings.warn(
                "steps of training are not captured as CUDA graphs, but launched kernel by "
                f"kernel: {why}",
                RuntimeWarning,
                stacklevel=2,
            )
        return None
    return CapturedSteps(updater, graphs)


class CapturedSteps:
    """The steps of an updater, epoch by epoch, on the device."""

    def __init__(self, updater: Updater, graphs: Any) -> None:
        # The updater holds these steps; a cycle would keep device memory until one is collected.
        self.updater: Updater = weakref.proxy(updater)
        self.graphs = graphs
        model, split, rule = updater.model, updater.train, rule_of(updater.optimizer)
        assert rule is not None
        self.backend: Any = model.backend
        misspelled = bool(updater.config.typing_errors)
        self.batches = DeviceBatches(model, split, updater.config.batch_size, misspelled)
        self.counters = self.batches.resident.counters
        self.update = DeviceUpdate(
            self.backend, (model.flat.values, model.flat.grads), model.flat.parameters, rule,
            decayed_by(updater.optimizer), updater.log, self.counters, updater.config.clip_norm,
        )  # fmt: skip
        self.order: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.rows_of: list[int] = []
        self.rates: list[float] = []
        #: The first batch that was taken, what went before it, and whether the flag was seen set.
        self.first, self.begun, self.rate_before, self.doubtful = 0, 0, 0.0, False

    def run(self, order: NDArray[np.int64], on_batch: Callable[[], None]) -> int:
        """Train an epoch from ``progress.batch`` on; the number of rows that were trained on."""
        progress = self.updater.progress
        first, size = progress.batch, self.updater.config.batch_size
        with self.graphs.in_use(), self._consistent_at_the_end():
            self.begin(order)
            while progress.batch < len(self.rates) or self._went_back():
                if self.doubtful or self._eager(progress.batch):
                    self._step_eagerly()
                else:
                    self.step()
                progress.batch += 1
                on_batch()
        return len(order) - first * size

    def begin(self, order: NDArray[np.int64]) -> None:
        """Copy the epoch's order and rates to the device; after that, nothing is copied."""
        updater = self.updater
        optimizer, first = updater.optimizer, updater.progress.batch
        size = updater.config.batch_size
        split = updater.splits["train"]
        self.order = longest_first(order, split.lengths, size)
        starts = np.arange(0, len(order), size)
        self.rows_of = np.add.reduceat(split.lengths[order], starts).tolist()
        self.first, self.begun = first, optimizer.steps - first
        self.rate_before = optimizer.learning_rate
        self.rates = [0.0] * first
        table = np.zeros((len(self.rows_of), RATES))
        for place in range(first, len(table)):
            rate = updater.rate_of(self.begun + place)
            table[place] = rates_of(optimizer, self.begun + place + 1, rate)
            self.rates.append(rate)
        self.batches.begin(split, self.order)
        self.update.rates[...] = self.backend.asarray(table)
        self._set_counters(first)

    def step(self) -> None:
        """Launch the step of batch ``progress.batch``, without waiting for it."""
        number, optimizer = self.updater.progress.batch, self.updater.optimizer
        size = self.updater.config.batch_size
        key = min(size, len(self.order) - number * size), capacity_for(self.rows_of[number])
        self.graphs.run(key, partial(self._work, self.batches.shape(*key)))
        optimizer.steps += 1
        optimizer.learning_rate = self.rates[number]

    def _work(self, shape: Shape) -> None:
        """What is captured: the same launches for every batch of a shape."""
        updater = self.updater
        batch = self.batches.load(shape)
        random = updater.random.at(self.counters[1:2])
        found = updater.objective(updater.model, batch, random, None)
        self.update.launch(found.loss_sum, found.weight_sum, found.correct)

    def _eager(self, number: int) -> bool:
        """Whether the host has to see this step: for the probe, or a rate that may overflow."""
        safe = SAFE_RATE * (1 - self.updater.config.momentum)
        return number == self.updater.probed_batch or self.rates[number] > safe

    def _step_eagerly(self) -> None:
        """The step of ``progress.batch`` as on a CPU. It looks at the flag: the host waits here."""
        updater, size = self.updater, self.updater.config.batch_size
        self._went_back()
        number = updater.progress.batch
        rows = self.order[: (number + 1) * size]
        updater.step(next(batches(updater.splits["train"], rows, size, self.backend, number)))
        self._set_counters(number + 1)

    def _went_back(self) -> bool:
        """Wait for the device; go back to a step that was not finite. Whether there was one."""
        bad = int(self.backend.to_numpy(self.counters)[2])
        self.doubtful = bad > 0
        if bad:
            optimizer, before = self.updater.optimizer, bad - 2
            self.updater.progress.batch = bad - 1
            optimizer.steps = self.begun + bad - 1
            known = before >= self.first
            optimizer.learning_rate = self.rates[before] if known else self.rate_before
        return self.doubtful

    def _set_counters(self, batch: int) -> None:
        host = np.array([batch, self.updater.optimizer.steps, 0], dtype=np.uint64)
        self.counters[...] = self.backend.asarray(host)
        self.doubtful = False

    @contextmanager
    def _consistent_at_the_end(self) -> Iterator[None]:
        """Whatever stops the epoch, ``progress`` and the optimizer's steps fit the weights."""
        try:
            yield
        except BaseException:
            with suppress(Exception):  # of a device that is lost, there is nothing to say
                self._went_back()
            raise
