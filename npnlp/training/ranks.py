"""The processes (ranks) of a training; here, one process that trains by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Backend
from npnlp.backend.random import Share
from npnlp.classifier.batches import Batch, batches
from npnlp.text import SplitArrays
from npnlp.training.objective import Objective

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """A batch of ``rows (B,)`` of which this rank has ``batch``, or nothing (None)."""

    rows: Rows
    batch: Batch | None
    share: Share | None = None


AnyBatch: TypeAlias = Batch | Part


class Alone:
    """A single process: all batches are its own, and nothing is sent.

    For several see :class:`npnlp.training.distributed.shared.Shared`.
    """

    rank, size, first = 0, 1, True
    #: The rank among those of the same machine, whose device it takes; None to leave the choice.
    local_rank: int | None = None

    def batches(
        self,
        split: SplitArrays,
        order: Rows,
        batch_size: int,
        backend: Backend,
        start: int,
        undivided: int | None,
    ) -> Iterator[AnyBatch]:
        """This rank's parts of the batches from ``start`` on; rank 0 has all of ``undivided``."""
        return batches(split, order, batch_size, backend, start)

    def objective(self, objective: Objective) -> Objective:
        """``objective`` for the parts that :meth:`batches` gives."""
        return objective

    def together(self, *partial: NDArray[Any]) -> list[NDArray[Any]]:
        """Arrays on the host, each summed over all ranks, in float64."""
        return list(partial)

    def from_first(self, content: bytes) -> bytes:
        """The ``content`` of rank 0."""
        return content

    def first_does(self, work: Callable[[], bytes]) -> bytes:
        """What ``work`` gives on rank 0, which alone does it.

        An error there is raised on all ranks: on the others as :class:`InputError`.
        """
        return work()

    def agreed(self, check: Callable[[], None]) -> Callable[[], None]:
        """``check``, which raises :class:`Interrupted`, made to raise on all ranks at once."""
        return check


ALONE = Alone()
