"""Many models of one shape on a device, a block each (``kernels/many.cu``).

Their weights and moments lie there, one model below the other. An epoch copies its orders and rates
there before its first launch; after that nothing is copied, and nothing read, until its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.base import Array
from npnlp.backend.cuda.kernel_source import NULL, REALS, real_option
from npnlp.backend.random import keep_threshold

FILE, THREADS = "many.cu", 256
#: Of each kind of cell: its number in ``many_cells.cuh``, its gates, and what it keeps of a row.
CELLS = {"elman_tanh": (0, 1, 0), "elman_relu": (1, 1, 0), "gru": (2, 3, 4), "lstm": (3, 4, 6)}
#: Numbers from the host for each step: Adam's corrected rate and eps, and the factor of decay.
RATES = 3
#: An evaluation has about as many blocks: more multiprocessors than any device has today.
BLOCKS = 256


class Table(NamedTuple):
    """The rows of a split: ``tokens``, and ``starts``, ``lengths`` and ``targets`` of each row."""

    tokens: NDArray[np.integer]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    targets: NDArray[np.int64]

    def longest(self, rows: int) -> int:
        """The steps of the ``rows`` longest sequences together."""
        return int(np.sort(self.lengths)[-rows:].sum())


@dataclass(frozen=True)
class Shape:
    """The sizes of the models; ``parts`` are those of their parameters, in the flat buffer's order.

    ``kind`` is the cell's, one of :data:`CELLS`; ``padding`` the row of the table without gradient.
    """

    kind: str
    dtype: str
    vocabulary: int
    features: int
    units: int
    classes: int
    padding: int
    parts: tuple[int, ...]

    def room(self, batch: int, rows: int, steps: int) -> tuple[list[int], list[int]]:
        """The sizes of a block's own arrays, in the order of ``Places`` and ``WholePlaces``.

        For batches of up to ``batch`` sequences, ``rows`` packed rows and ``steps`` steps.
        """
        _, gates, slots = CELLS[self.kind]
        wide, features = gates * self.units, batch * self.units
        own = wide if self.kind == "gru" else 0
        numbers = [
            wide, self.vocabulary * wide, self.vocabulary * wide, rows * self.units,
            rows * slots * self.units, rows * wide, rows * own, batch * wide, *[features] * 7,
            batch * self.classes, batch, batch,
        ]  # fmt: skip
        return numbers, [*[batch] * 3, *[steps] * 2, *[rows] * 2, self.vocabulary + 1, rows]

    def bytes_of(self, batch: int, rows: int, steps: int) -> int:
        """The memory of a block."""
        numbers, whole = self.room(batch, rows, steps)
        return sum(numbers) * np.dtype(self.dtype).itemsize + 4 * sum(whole)


@dataclass(frozen=True)
class Settings:
    """What all models have in common: of the batches, dropout, and Adam."""

    batch_size: int
    dropout: float
    betas: tuple[float, float]
    clip: float | None


class Found(NamedTuple):
    """What came of an epoch, on the host: a row a model.

    ``values``, ``first`` and ``second`` are weights and moments ``(M, P)``; ``probed`` the weights
    before the batch that was probed; ``log (M, batches, 4 + parameters)``; ``bad (M,)`` the first
    batch that was not finite, from 1, or 0.
    """

    values: NDArray[Any]
    first: NDArray[Any]
    second: NDArray[Any]
    probed: NDArray[Any]
    log: NDArray[np.float64]
    bad: NDArray[np.int32]


class ManyModels:
    """``count`` models on a device, trained and evaluated together.

    ``keys (count, 3)`` are the seed and the two streams of each model's dropout.
    """

    def __init__(
        self, backend: Any, shape: Shape, settings: Settings, train: Table, val: Table,
        keys: NDArray[np.uint64], class_weights: NDArray[Any] | None,
    ) -> None:  # fmt: skip
        self.backend, self.shape, self.settings, self.count = backend, shape, settings, len(keys)
        self.dtype, self.rows = np.dtype(shape.dtype), (len(train.lengths), len(val.lengths))
        size, asarray = settings.batch_size, backend.asarray
        self.batches, self.val_batches = (-(-rows // size) for rows in self.rows)
        self.lanes = max(1, min(self.val_batches, BLOCKS // self.count))
        self.train_table, self.val_table = (self._on_device(table) for table in (train, val))
        steps = int(max(table.lengths.max() for table in (train, val)))
        numbers, whole = shape.room(size, max(t.longest(size) for t in (train, val)), steps)
        self.numbers, self.places = self._arrays(numbers, self.dtype)
        self.whole, self.whole_places = self._arrays(whole, np.int32)
        self.parts = asarray(_starts(shape.parts))
        sizes = (shape.vocabulary, shape.features, shape.units, shape.classes, size, shape.padding)
        self.sizes = asarray(np.array(sizes, dtype=np.int32))
        self.keys = asarray(keys)
        self.weights = NULL
        if class_weights is not None:
            self.weights = asarray(np.ascontiguousarray(class_weights, dtype=self.dtype))
        each = (self.count, sum(shape.parts))
        self.values, self.grads, self.first, self.second, self.probed = (
            backend.zeros(each, self.dtype) for _ in range(5)
        )
        self.log = backend.zeros((self.count, self.batches, 4 + len(shape.parts)), np.float64)
        self.sums = backend.zeros((self.count, self.val_batches, 2), np.float64)
        self.predicted = backend.zeros((self.count, self.rows[1]), np.int32)
        by_length = np.argsort(-val.lengths, kind="stable").astype(np.int32)
        self.val_order = asarray(by_length)

    def _on_device(self, table: Table) -> tuple[Array, ...]:
        return tuple(
            self.backend.asarray(np.ascontiguousarray(array, dtype=np.int32)) for array in table
        )

    def _arrays(self, sizes: Sequence[int], dtype: Any) -> tuple[Array, Array]:
        """The blocks' own memory, and where each array of it begins; all begin at a line of it."""
        filled = [-(-size // 32) * 32 for size in sizes]
        blocks = self.count * self.lanes
        return (
            self.backend.zeros((blocks * sum(filled),), dtype),
            self.backend.asarray(_starts(filled)),
        )

    def put(
        self, values: NDArray[Any], first: NDArray[Any], second: NDArray[Any],
        log: NDArray[np.float64],
    ) -> None:  # fmt: skip
        """Set weights, moments ``(M, P)`` and log of all models."""
        for to, given in (
            (self.values, values), (self.first, first), (self.second, second), (self.log, log)
        ):  # fmt: skip
            to[...] = self.backend.asarray(np.ascontiguousarray(given))

    def begin(
        self, orders: NDArray[np.int32], begin: NDArray[np.int32], begun: NDArray[np.uint64],
        rates: NDArray[np.float64],
    ) -> None:  # fmt: skip
        """Begin an epoch: each model's order ``(M, rows)``, longest first in each batch, its first
        batch ``(M,)``, the steps before batch 0 ``(M,)`` and its rates ``(M, batches, 3)``.
        """
        given = (orders, begin, begun, rates)
        self.epoch = tuple(self.backend.asarray(np.ascontiguousarray(array)) for array in given)
        self.bad = self.backend.zeros((self.count,), np.int32)

    def train(self, slots: Array, start: int, stop: int, probed: int | None) -> None:
        """Launch batches ``start`` to ``stop - 1`` of the models ``slots``, without waiting."""
        settings, real = self.settings, self.dtype.type
        threshold = keep_threshold(settings.dropout)
        orders, begin, begun, rates = self.epoch
        betas = (real(beta) for beta in settings.betas)
        numbers = (start, stop, -1 if probed is None else probed, self.batches,
                   settings.batch_size, self.rows[0])  # fmt: skip
        self._kernel("many_train")((len(slots),), (THREADS,), (
            slots, *map(np.int32, numbers), self.sizes, self.parts,
            self.values, self.grads, self.first, self.second, self.probed,
            self.numbers, self.places, self.whole, self.whole_places,
            *self.train_table, orders, begin, begun, self.keys, self.weights, rates, self.log,
            self.bad, np.uint32(threshold), real(1.0 / (1.0 - settings.dropout)),
            real(settings.clip or 0), *betas,
        ))  # fmt: skip

    def evaluate(self, slots: Array) -> None:
        """Launch an evaluation of the models ``slots`` on all rows of val, without waiting."""
        numbers = (self.val_batches, self.settings.batch_size, self.rows[1])
        self._kernel("many_evaluate")((len(slots), self.lanes), (THREADS,), (
            slots, *map(np.int32, numbers), self.sizes, self.parts, self.values, self.numbers,
            self.places, self.whole, self.whole_places, *self.val_table, self.val_order,
            self.weights, self.sums, self.predicted,
        ))  # fmt: skip

    def found(self) -> Found:
        """Wait, and copy what the models have come to."""
        arrays = (self.values, self.first, self.second, self.probed, self.log, self.bad)
        return Found(*map(self.backend.to_numpy, arrays))

    def evaluations(self) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Of the last :meth:`evaluate`: sums of losses and weights ``(M, batches, 2)``, and the
        class of each row ``(M, rows)``.
        """
        return self.backend.to_numpy(self.sums), self.backend.to_numpy(self.predicted)

    def _kernel(self, name: str) -> Any:
        cell = CELLS[self.shape.kind][0]
        return self.backend.kernels.get(FILE, name, real_option(self.dtype), f"-DCELL={cell}")


def supports(kind: str, dtype: Any) -> bool:
    """Whether there is a kernel for this cell and dtype."""
    return kind in CELLS and np.dtype(dtype).name in REALS


def _starts(sizes: Sequence[int]) -> NDArray[np.int64]:
    """Where each of these begins, and the end of the last."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
