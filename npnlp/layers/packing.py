"""Packed sequences: a batch of variable length with no padded step in it.

Sequences are sorted by length, longest first, and their steps are laid out time-major: first all
first steps, then all second steps of those that have one, and so on. ``data (N, ...)`` holds
``N = sum(lengths)`` rows; at step ``t`` the first ``batch_sizes[t]`` sequences are still running.

    lengths 3, 2, 1:   a1 b1 c1 | a2 b2 | a3        batch_sizes 3, 2, 1
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend
from npnlp.errors import InputError

Integers = NDArray[np.int64]


class Rows(NamedTuple):
    """Of each packed row: its batch, its step and the sorted place of its sequence."""

    batches: Integers
    steps: Integers
    places: Integers


@dataclass(frozen=True, eq=False)
class Packing:
    """Where each step of each sequence lies; made by :meth:`of` or :func:`pack_many`.

    What a layer takes or returns a row a sequence of is in the caller's order; the sorted order
    stays inside. On the host: ``lengths (B,)``; ``order (B,)``, which sequence stands at each
    sorted place, or None where the caller's order is sorted; ``steps`` and ``places (N,)``, the
    step and the sorted place of each packed row; ``batch_sizes (T,)`` and ``offsets (T,)``, how
    many rows a step has and where they begin. On the backend: ``last_rows (B,)``, the row of each
    sequence's last step, and ``previous_rows (N - B,)``, the row before each row of steps 1 to
    T - 1.
    """

    backend: Backend
    lengths: Integers
    order: Integers | None
    steps: Integers
    places: Integers
    batch_sizes: list[int]
    offsets: list[int]
    last_rows: Array
    previous_rows: Array

    @classmethod
    def of(cls, lengths: Integers, backend: Backend) -> Self:
        """The packing of sequences of these lengths, in any order.

        Raises :class:`InputError` where they are not whole numbers above 0.
        """
        lengths = np.asarray(lengths)
        if lengths.ndim != 1 or lengths.size == 0 or lengths.dtype.kind not in "iu":
            raise InputError(
                f"lengths have to be whole numbers of shape (B,) with B > 0; they are "
                f"{lengths.dtype} of shape {lengths.shape}"
            )
        if lengths.min() < 1:
            row = int(np.argmin(lengths))
            raise InputError(
                f"lengths[{row}] is {lengths[row]}; every sequence has to have at least one step"
            )
        order = np.argsort(-lengths, kind="stable")
        (packed,), _ = pack_many(lengths[order][None], backend)
        if (order[1:] > order[:-1]).all():
            return packed  # type: ignore[return-value]
        unsorted = np.argsort(order, kind="stable")
        fields = vars(packed) | {
            "lengths": lengths,
            "order": order,
            "last_rows": packed.last_rows.take(backend.asarray(unsorted), axis=0),
        }
        return cls(**fields)

    @property
    def longest_first(self) -> Integers:
        """``lengths (B,)`` in sorted order."""
        return self.lengths if self.order is None else self.lengths[self.order]

    @property
    def rows(self) -> int:
        """``N``, the number of packed rows."""
        return len(self.steps)

    @cached_property
    def on_device(self) -> tuple[Array, Array, int, int]:
        """``offsets`` and ``batch_sizes (T,)`` int32 on the backend, B and T: for kernels."""
        numbers = np.array([self.offsets, self.batch_sizes], dtype=np.int32)
        offsets, sizes = self.backend.asarray(numbers)
        return offsets, sizes, len(self.lengths), len(self.offsets)

    def sort(self, x: Array) -> Array:
        """A copy of the caller's rows ``(B, ...)`` in sorted order."""
        return x.copy() if self.order is None else x.take(self.backend.asarray(self.order), axis=0)

    def unsort(self, x: Array) -> Array:
        """Sorted rows ``(B, ...)`` back in the caller's order."""
        if self.order is None:
            return x
        return x.take(self.backend.asarray(np.argsort(self.order, kind="stable")), axis=0)

    @property
    def lags(self) -> Integers:
        """Of each packed row, how many steps it is before its sequence's last ``(N,)``."""
        return self.longest_first[self.places] - 1 - self.steps

    def reverse(self, x: Array) -> Array:
        """Packed rows ``(N, ...)``, each sequence turned around within its own length.

        Twice gives ``x`` again, so this is its own inverse and its own gradient.
        """
        return x.take(self.reversed_rows, axis=0)

    @cached_property
    def reversed_rows(self) -> Array:
        """Of each packed row, the row of the same sequence as far from its other end ``(N,)``."""
        return self.backend.asarray(np.asarray(self.offsets)[self.lags] + self.places)

    @property
    def sequences(self) -> Integers:
        """Of each packed row, the sequence it belongs to, in the caller's order ``(N,)``."""
        return self.places if self.order is None else self.order[self.places]

    def padded_rows(self) -> Array:
        """Where each packed row lies in a padded ``(T * B)`` layout of the caller's order."""
        return self.backend.asarray(self.steps * len(self.lengths) + self.sequences)


def pack_many(lengths: Integers, backend: Backend) -> tuple[list[Packing], Rows]:
    """The packings of K batches at once, ``lengths (K, B)``, each row sorted longest first.

    Also the packed rows of all of them, one batch after another. An epoch has hundreds of batches,
    and to lay out their steps together takes a tenth of the time.
    """
    batches, batch = lengths.shape
    steps = np.arange(lengths.max())
    sizes = (lengths[:, None, :] > steps[:, None]).sum(axis=2)  # (K, T): who is still running
    offsets = np.cumsum(sizes, axis=1) - sizes
    last = np.take_along_axis(offsets, lengths - 1, axis=1) + np.arange(batch)
    totals = sizes.sum(axis=1)
    ends = np.cumsum(totals)
    starts = ends - totals
    # Each (k, t) is a run of rows, for the places 0 to sizes[k, t] - 1.
    runs = sizes.ravel()
    row = np.arange(ends[-1]) - np.repeat(starts, totals)  # within its batch
    rows = Rows(
        batches=np.repeat(np.arange(batches), totals),
        steps=np.repeat(np.tile(steps, batches), runs),
        places=row - np.repeat(offsets.ravel(), runs),
    )
    # The row before (t, b) is (t - 1, b); step t - 1 has sizes[k, t - 1] rows.
    previous = row - np.repeat(np.roll(sizes, 1, axis=1).ravel(), runs)
    packings = [
        Packing(
            backend=backend,
            lengths=lengths[k],
            order=None,
            steps=rows.steps[start:end],
            places=rows.places[start:end],
            batch_sizes=sizes[k, : lengths[k, 0]].tolist(),
            offsets=offsets[k, : lengths[k, 0]].tolist(),
            last_rows=backend.asarray(last[k]),
            previous_rows=backend.asarray(previous[start + batch : end]),
        )
        for k, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True))
    ]
    return packings, rows


def pack_padded_sequence(
    x: Array, lengths: Integers, backend: Backend, *, batch_first: bool = False
) -> tuple[Array, Packing]:
    """Pack ``x (T, B, ...)`` (or ``(B, T, ...)`` with ``batch_first``), padding dropped.

    ``lengths`` come in any order. Raises :class:`InputError` where one is below 1 or above T.
    """
    if batch_first:
        x = x.swapaxes(0, 1)
    packing = Packing.of(lengths, backend)
    steps, batch = x.shape[:2]
    if len(packing.lengths) != batch:
        raise InputError(f"{len(packing.lengths)} lengths for {batch} sequences; give one for each")
    if packing.lengths.max() > steps:
        row = int(np.argmax(packing.lengths))
        raise InputError(f"lengths[{row}] is {packing.lengths[row]}, but x has {steps} steps")
    flat = x.reshape(steps * batch, *x.shape[2:])
    return flat.take(packing.padded_rows(), axis=0), packing


def pad_packed_sequence(data: Array, packing: Packing, *, batch_first: bool = False) -> Array:
    """Undo :func:`pack_padded_sequence`: ``(T, B, ...)`` in the caller's order, zero-padded."""
    steps, batch = len(packing.batch_sizes), len(packing.lengths)
    flat = packing.backend.zeros((steps * batch, *data.shape[1:]), data.dtype)
    flat[packing.padded_rows()] = data
    padded = flat.reshape(steps, batch, *data.shape[1:])
    return padded.swapaxes(0, 1) if batch_first else padded
