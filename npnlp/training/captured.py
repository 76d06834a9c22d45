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

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.cuda.resident import BatchBuffers, Resident
from npnlp.backend.cuda.update import RATES, DeviceUpdate
from npnlp.classifier.batches import Batch, batches
from npnlp.layers import Packing
from npnlp.layers.attention.parts import WHOLE
from npnlp.layers.attention.transformer import TransformerEncoder
from npnlp.training.optimizers import SAFE_RATE, Adam
from npnlp.training.updater import Updater

#: Room for rows comes in steps of an eighth of the power of two below, and no finer than this:
#: at most an eighth more than a batch has, and few graphs.
FINEST, PARTS = 64, 8


def obstacle(updater: Updater) -> str:
    """Why the steps of ``updater`` cannot be captured; empty where they can."""
    model, config = updater.model, updater.model.config
    if updater.ranks.size > 1:
        return "several processes share every batch"
    if not isinstance(updater.optimizer, Adam):
        return "the optimizer is not adam"
    if updater.config.typing_errors:
        return "names have other typing errors in each epoch"
    if updater.config.soft:
        return "the objective has distributions as targets"
    if updater.train.weights is not None:
        return "rows have weights"
    if config.ngram_orders:
        return "the model has a bag of n-grams"
    if isinstance(model.encoder.rnn, TransformerEncoder):
        weights = updater.config.batch_size * config.num_heads * updater.train.lengths.max() ** 2
        return "attention over rows this long goes in parts" if weights > WHOLE else ""
    cells = model.encoder.cells
    passes = (model.backend.recurrent_passes(c.kind(), c.hidden_size, c.dtype) for c in cells)
    if not cells or any(found is None for found in passes):
        return f"no kernel runs this {config.cell}"
    return ""


def captured_steps(updater: Updater) -> CapturedSteps | None:
    """Captured steps of ``updater``; None where its backend or its model has none."""
    graphs = updater.model.backend.graphs()
    if graphs is None or obstacle(updater):
        return None
    return CapturedSteps(updater, graphs)


def capacity_for(rows: int) -> int:
    """Room for a batch of ``rows`` packed rows."""
    step = max(FINEST, (1 << rows.bit_length() - 1) // PARTS)
    return -(-rows // step) * step


class CapturedSteps:
    """The steps of an updater, epoch by epoch, on the device."""

    def __init__(self, updater: Updater, graphs: Any) -> None:
        assert isinstance(updater.optimizer, Adam)
        self.updater, self.graphs = updater, graphs
        model, adam, split = updater.model, updater.optimizer, updater.train
        moments = adam.moments["first_sum"], adam.moments["second_sum"]
        self.backend: Any = model.backend
        arrays = (split.tokens, split.starts, split.lengths, split.targets)
        self.resident = Resident(self.backend, *arrays, updater.config.batch_size)
        self.counters = self.resident.counters
        decayed = {name for name, value in model.parameters.items() if value.ndim > 1}
        self.update = DeviceUpdate(
            self.backend,
            (model.flat.values, model.flat.grads, *moments),
            model.flat.parameters,
            decayed if adam.weight_decay else set(),
            updater.log, self.counters, adam.betas, updater.config.clip_norm,
        )  # fmt: skip
        self.shapes: dict[tuple[int, int], tuple[BatchBuffers, Batch]] = {}
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
        updater, asarray = self.updater, self.backend.asarray
        adam, first, size = updater.optimizer, updater.progress.batch, updater.config.batch_size
        assert isinstance(adam, Adam)
        lengths, number = updater.train.lengths[order], np.arange(len(order)) // size
        self.order = order[np.lexsort((-lengths, number))]
        self.rows_of = np.bincount(number, weights=lengths).astype(np.int64).tolist()
        self.first, self.begun, self.rate_before = first, adam.steps - first, adam.learning_rate
        self.rates = [0.0] * first
        table = np.zeros((len(self.rows_of), RATES))
        for place in range(first, len(table)):
            rate = updater.rate_of(self.begun + place)
            numbers = adam.numbers(self.begun + place + 1, rate)
            table[place] = numbers.rate, numbers.eps, 1 - rate * adam.weight_decay
            self.rates.append(rate)
        self.resident.order[...] = asarray(self.order)
        self.update.rates[...] = asarray(table)
        self._set_counters(first)

    def step(self) -> None:
        """Launch the step of batch ``progress.batch``, without waiting for it."""
        number, adam = self.updater.progress.batch, self.updater.optimizer
        size = self.updater.config.batch_size
        key = min(size, len(self.order) - number * size), capacity_for(self.rows_of[number])
        if key not in self.shapes:
            self.shapes[key] = self._shape(*key)
        self.graphs.run(key, partial(self._work, *self.shapes[key]))
        adam.steps += 1
        adam.learning_rate = self.rates[number]

    def _work(self, buffers: BatchBuffers, batch: Batch) -> None:
        """What is captured: the same launches for every batch of a shape."""
        updater = self.updater
        self.resident.load(buffers)
        random = updater.random.at(self.counters[1:2])
        with self.backend.xp.own_products():
            found = updater.objective(updater.model, batch, random, None)
        self.update.launch(found.loss_sum, found.weight_sum, found.correct)

    def _shape(self, batch: int, capacity: int) -> tuple[BatchBuffers, Batch]:
        buffers = self.resident.buffers(batch, capacity)
        steps = self.resident.steps
        nobody = np.empty(0, dtype=np.int64)
        packing = Packing(
            backend=self.backend, lengths=buffers.lengths, order=None,
            runs=np.tile(np.array([[0], [batch]], dtype=np.int32), steps),
            last_rows=buffers.last_rows, previous_rows=buffers.previous_rows,
        )  # fmt: skip
        # What a packing would make on the host, or copy from there, is on the device already.
        vars(packing).update(
            on_device=(buffers.offsets, buffers.sizes, batch, steps), steps=buffers.steps,
            places=buffers.places, reversed_rows=buffers.reversed_rows, spare=True,
        )  # fmt: skip
        # No vocabulary of the batch's own: its size would be another for each batch.
        vocabulary: Any = None
        return buffers, Batch(buffers.tokens, vocabulary, packing, buffers.targets, nobody)

    def _eager(self, number: int) -> bool:
        """Whether the host has to see this step: for the probe, or a rate that may overflow."""
        return number == self.updater.probed_batch or self.rates[number] > SAFE_RATE

    def _step_eagerly(self) -> None:
        """The step of ``progress.batch`` as on a CPU. It looks at the flag: the host waits here."""
        updater, size = self.updater, self.updater.config.batch_size
        self._went_back()
        number = updater.progress.batch
        rows = self.order[: (number + 1) * size]
        updater.step(next(batches(updater.train, rows, size, self.backend, number)))
        self._set_counters(number + 1)

    def _went_back(self) -> bool:
        """Wait for the device; go back to a step that was not finite. Whether there was one."""
        bad = int(self.backend.to_numpy(self.counters)[2])
        self.doubtful = bad > 0
        if bad:
            adam, before = self.updater.optimizer, bad - 2
            self.updater.progress.batch = bad - 1
            adam.steps = self.begun + bad - 1
            known = before >= self.first
            adam.learning_rate = self.rates[before] if known else self.rate_before
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
