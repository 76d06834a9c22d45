"""Many trainers at once: their epochs on a device, a block each (``backend/cuda/many.py``).

The trainers stay on the host, and on NumPy: each has its own weights, schedule, history and best
weights there, as if it were alone. The device takes the steps of an epoch, those of all trainers
together, and evaluates; then each trainer is told what it has come to. What is rare the host does
itself: the step that a number is not finite in, which says where the number was, and the forward
and backward pass that shows the gradient flow, from the weights before the probed batch. That costs
no launch, and for each trainer an epoch some milliseconds of a core, which may be another's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.cuda.many import RATES, Found, ManyModels, Settings
from npnlp.backend.threads import in_one_blas_thread
from npnlp.classifier.evaluation import Evaluation, evaluation_of
from npnlp.errors import DivergenceError
from npnlp.summary import summarized
from npnlp.training.alike import shape_of, table_of
from npnlp.training.device_batches import longest_first
from npnlp.training.device_rule import rates_of
from npnlp.training.flow_job import FlowJob, flow_of
from npnlp.training.optimizers import SAFE_RATE, Adam
from npnlp.training.recorder import thinned
from npnlp.training.trainer import Trainer

#: Steps of a launch: between two of them the host can be interrupted.
STEPS = 64
#: The names of the parameters, in the order of ``Parts`` in ``kernels/many_model.cuh``.
PARAMETERS = (
    "emb.weight", "rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0", "rnn.bias_hh_l0",
    "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias",
)  # fmt: skip

Row = dict[str, float]


@summarized
@dataclass
class Plan:
    """An epoch of a trainer: its order, the batch that it begins with, and the steps before 0."""

    order: NDArray[np.int64]
    first: int
    begun: int
    rates: list[float]


class ManyTrainers:
    """Trainers that differ in their seeds alone, on a device.

    None may have an :func:`npnlp.training.alike.obstacle`.

    ``backend`` is the device's, the trainers' own that of the host. :meth:`run_epoch` is what
    :meth:`Trainer.run_epoch` is to each. ``flows`` makes :func:`flow_of` of many jobs, in their
    order; by default they are made one after another.
    """

    def __init__(
        self, backend: Any, trainers: Sequence[Trainer],
        flows: Callable[[Sequence[FlowJob]], Iterable[NDArray[np.float64]]] | None = None,
    ) -> None:  # fmt: skip
        self.backend, self.trainers, self.flows = backend, list(trainers), flows
        one = self.trainers[0]
        model, config, adam = one.model, one.config, one.optimizer
        assert isinstance(adam, Adam)
        assert tuple(model.flat.parameters) == PARAMETERS
        weights = one.criterion.class_weights
        self.models = ManyModels(
            backend, shape_of(one),
            Settings(config.batch_size, model.config.dropout, adam.betas, config.clip_norm),
            table_of(one.train), table_of(one.val),
            np.array([_keys(trainer) for trainer in self.trainers]),
            None if weights is None else model.backend.to_numpy(weights),
        )  # fmt: skip
        self.batches = one.batches_per_epoch
        #: Trainers that the device does not know the state of.
        self.unknown = set(range(len(self.trainers)))
        self.plans: dict[int, Plan] = {}
        #: Of each trainer the epoch that was looked at last, and its orders.
        self.ahead: dict[int, tuple[Any, ...]] = {}

    @in_one_blas_thread
    def run_epoch(
        self, slots: Sequence[int], on_steps: Callable[[], None] = lambda: None
    ) -> dict[int, Row | DivergenceError]:
        """An epoch of the trainers ``slots``; of each its row of the history, or why it has none.

        ``on_steps`` is called after every launch; what it raises ends the epoch there, with all
        trainers where they then stand.
        """
        started = time.perf_counter()
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            together = self._begin(slots)
            with self._taken_where_it_stops(together):
                self._launch(together, on_steps)
            self._look_ahead(slots)
            found, (sums, predicted) = self.models.found(), self.models.evaluations()
            seconds = time.perf_counter() - started
            self._record_flows(together, found, self.batches)
            rows: dict[int, Row | DivergenceError] = {}
            for slot in slots:
                trainer = self.trainers[slot]
                good = slot in together and self._take(slot, found, self.batches)
                try:
                    val = evaluation_of(
                        trainer.val, trainer.model.config.num_classes, sums[slot], predicted[slot]
                    ) if good else self._alone(slot)  # fmt: skip
                    rows[slot] = trainer.end_epoch(seconds, self._rows(slot), val)
                except DivergenceError as error:
                    rows[slot] = error
        return rows

    def _begin(self, slots: Sequence[int]) -> list[int]:
        """Copy the epoch to the device; the trainers that take it there."""
        models = self.models
        if self.unknown.intersection(slots):
            self._put()
        count, rows = len(self.trainers), models.rows[0]
        orders = np.zeros((count, rows), dtype=np.int32)
        firsts, begun = np.zeros(count, np.int32), np.zeros(count, np.uint64)
        rates = np.zeros((count, self.batches, RATES))
        for slot in slots:
            order, orders[slot] = self._order_of(slot, self.trainers[slot].progress.epoch)
            plan = self.plans[slot] = _plan(self.trainers[slot], order, rates[slot])
            firsts[slot], begun[slot] = plan.first, plan.begun
        models.begin(orders, firsts, begun, rates)
        return [slot for slot in slots if max(self.plans[slot].rates, default=0) <= SAFE_RATE]

    def _order_of(self, slot: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The order of an epoch, and the same with the longest first in each batch."""
        known, *found = self.ahead.get(slot, (-1,))
        if known != epoch:
            trainer = self.trainers[slot]
            order = trainer.order_of(epoch)
            size, lengths = trainer.config.batch_size, trainer.train.lengths
            found = [order, longest_first(order, lengths, size)]
            self.ahead[slot] = (epoch, *found)
        order, batched = found
        return order, batched

    def _look_ahead(self, slots: Sequence[int]) -> None:
        """While the device works: the orders of the next epoch."""
        for slot in slots:
            trainer = self.trainers[slot]
            if trainer.progress.epoch + 1 < trainer.config.num_epochs:
                self._order_of(slot, trainer.progress.epoch + 1)

    def _put(self) -> None:
        """Copy all trainers' states to the device."""
        moments = [list(trainer.optimizer.moments.values()) for trainer in self.trainers]
        self.models.put(
            np.array([trainer.model.flat.values for trainer in self.trainers]),
            np.array([first for first, _ in moments]),
            np.array([second for _, second in moments]),
            np.array([trainer.log for trainer in self.trainers]),
        )
        self.unknown = set()

    def _launch(self, slots: Sequence[int], on_steps: Callable[[], None]) -> None:
        """All steps, and the evaluation."""
        if not slots:
            return
        probed = self.trainers[0].probed_batch
        on_device = self.backend.asarray(np.array(slots, dtype=np.int32))
        self.reached = min(self.plans[slot].first for slot in slots)
        while self.reached < self.batches:
            stop = min(self.reached + STEPS, self.batches)
            self.models.train(on_device, self.reached, stop, probed)
            self.reached = stop
            on_steps()
        self.models.evaluate(on_device)

    @contextmanager
    def _taken_where_it_stops(self, slots: Sequence[int]) -> Iterator[None]:
        """Whatever stops the epoch, the trainers are told where they stand."""
        try:
            yield
        except BaseException:
            found = self.models.found()
            self._record_flows(slots, found, self.reached)
            for slot in slots:
                self._take(slot, found, self.reached)
            raise

    def _take(self, slot: int, found: Found, reached: int) -> bool:
        """Tell a trainer what it has come to at batch ``reached``; whether all was finite."""
        trainer, plan = self.trainers[slot], self.plans[slot]
        adam, done = trainer.optimizer, self._done(slot, found, reached)
        trainer.model.flat.values[...] = found.values[slot]
        for moment, given in zip(
            adam.moments.values(), (found.first[slot], found.second[slot]), strict=True
        ):
            moment[...] = given
        trainer.log[...] = found.log[slot]
        adam.steps, trainer.progress.batch = plan.begun + done, done
        if done > plan.first:
            adam.learning_rate = plan.rates[done - 1 - plan.first]
        return not found.bad[slot]

    def _record_flows(self, slots: Sequence[int], found: Found, reached: int) -> None:
        """Have the gradient flow of the batches that were probed made, and keep it."""
        probed = self.trainers[0].probed_batch
        taken = [
            slot
            for slot in slots
            if probed is not None
            and self.plans[slot].first <= probed < self._done(slot, found, reached)
        ]
        jobs = [self._job(slot, found.probed[slot]) for slot in taken]
        made = self.flows(jobs) if self.flows else map(flow_of, self._own(taken), jobs)
        for slot, rows in zip(taken, made, strict=True):
            trainer = self.trainers[slot]
            flow = np.concatenate([trainer.flow, rows])
            trainer.flow = thinned(flow, trainer.progress.epoch)

    def _own(self, slots: Sequence[int]) -> list[Trainer]:
        return [self.trainers[slot] for slot in slots]

    def _job(self, slot: int, values: NDArray[Any]) -> FlowJob:
        trainer, plan = self.trainers[slot], self.plans[slot]
        number, size = trainer.probed_batch or 0, trainer.config.batch_size
        rows = plan.order[number * size : (number + 1) * size]
        random = trainer.random.at(plan.begun + number)
        return FlowJob(values, rows, random, trainer.progress.epoch)

    def _done(self, slot: int, found: Found, reached: int) -> int:
        """The batches of this epoch that a trainer has taken, those before it began included."""
        bad = int(found.bad[slot])
        return bad - 1 if bad else max(reached, self.plans[slot].first)

    def _alone(self, slot: int) -> Evaluation:
        """The rest of an epoch on the host, and its evaluation; raises :class:`DivergenceError`."""
        trainer = self.trainers[slot]
        self.unknown.add(slot)
        trainer.run_batches(self.plans[slot].order, lambda: None)
        return trainer.evaluate(trainer.val)

    def _rows(self, slot: int) -> int:
        """The rows that a trainer has been trained on in this epoch."""
        trainer = self.trainers[slot]
        return len(trainer.train) - self.plans[slot].first * trainer.config.batch_size


def _keys(trainer: Trainer) -> NDArray[np.uint64]:
    """The seed, and the streams of the two dropouts."""
    first, second = (trainer.random.child(name).key for name in ("dropout1", "dropout2"))
    return np.array([first[0], first[1], second[1]], dtype=np.uint64)


def _plan(trainer: Trainer, order: NDArray[np.int64], table: NDArray[np.float64]) -> Plan:
    """The epoch of a trainer in this order; ``table (batches, 3)`` gets its rates."""
    adam, first = trainer.optimizer, trainer.progress.batch
    assert isinstance(adam, Adam)
    begun, rates = adam.steps - first, []
    for place in range(first, len(table)):
        rate = trainer.rate_of(begun + place)
        table[place] = rates_of(adam, begun + place + 1, rate)
        rates.append(rate)
    return Plan(order, first, begun, rates)
