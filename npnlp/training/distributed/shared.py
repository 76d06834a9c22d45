"""Data-parallel training: R processes (ranks) share the rows of every batch.

    (1)  rank r takes rows r, r + R, r + 2 R, ... of the batch, sorted by length
    (2)  g_r = gradient of the (weighted) mean loss of its rows, W_r the sum of their weights
    (3)  g = sum_r W_r g_r / sum_r W_r             one sum over all ranks of one flat buffer
    (4)  each rank clips g and takes the step

So g is the gradient of the full batch. Dropout depends on the place of a row in the batch and not
on the rank that has it: a rank cuts its rows out of the mask of the full batch. All ranks hold the
same weights and decide alike; a run is the same for any R up to rounding, and for the same R to the
bit.

Rank 0 takes the one batch of an epoch whose gradient flow is recorded without the others, so that
the flow is that of the full batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend, Random, get_backend
from npnlp.classifier.batches import batches
from npnlp.errors import InputError
from npnlp.layers import Packing
from npnlp.models import SurnameClassifier
from npnlp.text import SplitArrays
from npnlp.training.interrupt import Interrupted
from npnlp.training.objective import Objective, Outcome, Probe
from npnlp.training.ranks import Alone, AnyBatch, Part, Rows


class Communicator(Protocol):
    """What connects the ranks."""

    rank: int
    size: int
    local_rank: int  # among the ranks of the same machine

    def total(self, values: Array, backend: Backend) -> Array:
        """The sum over all ranks of ``values (n,)``, in the order of ranks: on all the same bits.

        The result may be overwritten by the next call.
        """

    def from_first(self, content: bytes) -> bytes:
        """The ``content`` of rank 0."""


@dataclass(frozen=True, eq=False)
class BatchShare:
    """Where a rank's rows, every ``size``-th from ``rank`` on, lie in the masks of a full batch.

    ``lengths (B,)`` are those of the full batch, longest first, and ``packing`` is that of this
    rank's rows. See :class:`npnlp.backend.random.Share`.
    """

    lengths: Rows
    packing: Packing
    rank: int
    size: int
    starts: tuple[int, ...] = (0,)

    def from_steps(self, steps: tuple[int, ...]) -> Self:
        """See :class:`npnlp.backend.random.Share`."""
        return replace(self, starts=steps)

    def place(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], Any]:
        """The shape of the full batch's mask, and where in it this rank's mask of ``shape`` lies.

        A mask has a row a sequence or a row a step (the same where all sequences have one step), or
        is ``(B, heads, T, T)``. Raises
        :class:`InputError` for another number of rows.
        """
        own, batch = slice(self.rank, None, self.size), len(self.lengths)
        if len(shape) == 4:
            longest = int(self.lengths[0])
            wide = (batch, shape[1], longest, longest)
            return wide, (own, slice(None), slice(shape[2]), slice(shape[3]))
        if shape[0] == len(self.packing.lengths) and self.starts == (0,):
            return (batch, *shape[1:]), own
        count, rows = self.packed
        if shape[0] != len(rows):
            raise InputError(
                f"a mask of shape {shape} has neither a row a sequence nor a row a step; a batch "
                "with such masks cannot be shared"
            )
        return (count, *shape[1:]), rows

    @cached_property
    def packed(self) -> tuple[int, Rows]:
        """The number of rows of the full batch's packed mask, and which of them are this rank's."""
        steps, places = self.packing.steps, self.packing.places
        sizes = (self.lengths[:, None] > np.arange(self.lengths[0])).sum(axis=0)
        ends = np.cumsum(sizes)
        rows = (ends - sizes)[steps] + places * self.size + self.rank
        count, parts = 0, []
        for start in self.starts:
            before = int(ends[min(start, len(ends)) - 1]) if start else 0
            parts.append(rows[steps >= start] + (count - before))
            count += int(ends[-1]) - before
        return count, np.concatenate(parts)


class Shared(Alone):
    """The ranks that ``communicator`` connects."""

    def __init__(self, communicator: Communicator) -> None:
        self.communicator = communicator
        self.rank, self.size = communicator.rank, communicator.size
        self.first, self.local_rank = self.rank == 0, communicator.local_rank
        self.asked = 0
        self.stop = False

    def batches(
        self,
        split: SplitArrays,
        order: Rows,
        batch_size: int,
        backend: Backend,
        start: int,
        undivided: int | None,
    ) -> Iterator[AnyBatch]:
        """See :class:`Alone`: a :class:`Part` for each batch."""
        firsts = range(start * batch_size, len(order), batch_size)
        full = [_longest_first(split, order[first : first + batch_size]) for first in firsts]
        own = [
            rows[self.rank :: self.size][: None if number != undivided else 0]
            for number, rows in enumerate(full, start)
        ]
        size = max(map(len, own), default=0)  # of all, but for the last batch
        made = batches(split, np.concatenate(own), size, backend) if size else iter(())
        for number, (rows, mine) in enumerate(zip(full, own, strict=True), start):
            if number == undivided and self.first:
                yield Part(rows, next(batches(split, rows, len(rows), backend)))
            elif not len(mine):
                yield Part(rows, None)
            else:
                batch = next(made)
                lengths = split.lengths[rows]
                yield Part(rows, batch, BatchShare(lengths, batch.packing, self.rank, self.size))

    def objective(self, objective: Objective) -> Objective:
        """See :class:`Alone`: (2) and (3)."""
        return SharedObjective(objective, self)

    def together(self, *partial: NDArray[Any]) -> list[NDArray[Any]]:
        """See :class:`Alone`."""
        flat = np.concatenate([array.ravel().astype(np.float64) for array in partial])
        summed = self.communicator.total(flat, get_backend("numpy"))
        ends = np.cumsum([array.size for array in partial])
        return [
            part.reshape(array.shape).astype(array.dtype)
            for part, array in zip(np.split(summed, ends[:-1]), partial, strict=True)
        ]

    def from_first(self, content: bytes) -> bytes:
        """See :class:`Alone`."""
        return self.communicator.from_first(content)

    def first_does(self, work: Callable[[], bytes]) -> bytes:
        """See :class:`Alone`: what is sent begins with a byte, and is empty after a failure."""
        content, failure = b"", None
        if self.first:
            try:
                content = b"\1" + work()
            except Exception as error:
                failure = error
        content = self.from_first(content)
        if failure is not None:
            raise failure
        if not content:
            raise InputError("rank 0 has failed")
        return content[1:]

    def agreed(self, check: Callable[[], None]) -> Callable[[], None]:
        """See :class:`Alone`: a rank that is asked to stop tells the others with its gradient."""

        def together() -> None:
            try:
                check()
            except Interrupted:
                self.asked = 1
            if self.stop:
                raise Interrupted

        return together


class SharedObjective:
    """The objective of a rank's rows; its gradient and its sums become those of the full batch."""

    def __init__(self, objective: Objective, ranks: Shared) -> None:
        self.own, self.ranks = objective, ranks

    def __call__(
        self, model: SurnameClassifier, batch: Any, random: Random, probe: Probe | None
    ) -> Outcome:
        """See :class:`Objective`; ``batch`` is a :class:`Part`."""
        grads, backend = model.flat.grads, model.backend
        message = backend.zeros((grads.size + 4,), grads.dtype)
        if batch.batch is not None:
            found = self.own(model, batch.batch, random.within(batch.share), probe)  # (2)
            message[:-4] = grads
            message[:-4] *= found.weight_sum
            message[-4] = found.loss_sum
            message[-3] = found.weight_sum
            message[-2] = found.correct
        message[-1] = self.ranks.asked
        summed = self.ranks.communicator.total(message, backend)
        loss_sum, weight_sum, correct, asked = summed[-4:].copy()
        self.ranks.stop = bool(asked)
        backend.xp.divide(summed[:-4], weight_sum, out=grads)  # (3)
        return Outcome(grads[:0], loss_sum, weight_sum, correct)


def _longest_first(split: SplitArrays, rows: Rows) -> Rows:
    """Rows in the order in which a batch of them is packed."""
    return rows[np.argsort(-split.lengths[rows], kind="stable")]
