"""Packed sequences: a batch of variable length with no padded step in it.

Sequences are sorted by length, longest first, and their steps are laid out time-major: first all
first steps, then all second steps of those that have one, and so on. ``data (N, ...)`` holds
``N = sum(lengths)`` rows; at step ``t`` the first ``batch_sizes[t]`` sequences are still running.

    lengths 3, 2, 1:   a1 b1 c1 | a2 b2 | a3        batch_sizes 3, 2, 1
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend
from npnlp.errors import InputError


@dataclass(frozen=True, eq=False)
class Packing:
    """Where each step of each sequence lies. Made on the host; indices live on the backend.

    ``lengths (B,)`` are in the caller's order, and so is everything a layer takes or returns a
    row a sequence of; the sorted order stays inside.
    """

    lengths: NDArray[np.int64]
    backend: Backend

    def __post_init__(self) -> None:
        lengths = self.lengths
        if lengths.ndim != 1 or lengths.size == 0 or lengths.dtype.kind not in "iu":
            raise InputError(
                f"lengths have to be integers of shape (B,) with B > 0; they are {lengths.dtype} "
                f"of shape {lengths.shape}"
            )
        if lengths.min() < 1:
            row = int(np.argmin(lengths))
            raise InputError(
                f"lengths[{row}] is {lengths[row]}; every sequence has to have at least one step"
            )

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Which of the caller's sequences stands at each sorted place ``(B,)``, on the host."""
        return np.argsort(-self.lengths, kind="stable").astype(np.int64, copy=False)

    @cached_property
    def running(self) -> NDArray[np.bool_]:
        """``(T, B)``, on the host: whether sorted sequence b has a step t."""
        longest_first = self.lengths[self.order]
        return np.arange(int(longest_first[0]))[:, None] < longest_first

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """``batch_sizes (T,)``: how many sequences have a step t, on the host."""
        return self.running.sum(axis=1)

    @cached_property
    def batch_sizes(self) -> list[int]:
        """``batch_sizes`` as Python numbers, which the loop over steps runs on."""
        sizes: list[int] = self.sizes.tolist()
        return sizes

    @cached_property
    def offsets(self) -> list[int]:
        """The packed row at which each step begins, ``(T,)``."""
        return [0, *np.cumsum(self.sizes)[:-1].tolist()]

    @property
    def rows(self) -> int:
        """``N``, the number of packed rows."""
        return int(self.lengths.sum())

    @cached_property
    def sorted_indices(self) -> Array:
        """``x[sorted_indices]`` puts the caller's rows into sorted order."""
        return self.backend.asarray(self.order)

    @cached_property
    def unsorted_indices(self) -> Array:
        """``x[unsorted_indices]`` puts sorted rows back into the caller's order."""
        return self.backend.asarray(np.argsort(self.order, kind="stable"))

    @cached_property
    def last_rows(self) -> Array:
        """The packed row of each sequence's last step ``(B,)``, in the caller's order."""
        last = np.empty_like(self.order)
        starts = np.array(self.offsets)[self.lengths[self.order] - 1]
        last[self.order] = starts + np.arange(len(starts))
        return self.backend.asarray(last)

    @cached_property
    def previous_rows(self) -> Array:
        """For every packed row of steps 1 to T-1, the row of the step before ``(N - B,)``."""
        before = np.repeat(self.sizes[:-1], self.sizes[1:])
        return self.backend.asarray(np.arange(self.batch_sizes[0], self.rows) - before)

    def pack_ragged(self, values: NDArray[Any], starts: NDArray[np.int64]) -> Array:
        """Pack sequences that lie one after another.

        Sequence b is ``values[starts[b] : starts[b] + lengths[b]]``.
        """
        steps = np.arange(len(self.batch_sizes))[:, None]
        places = (starts[self.order] + steps)[self.running]
        return self.backend.asarray(values[places])


def pack_padded_sequence(
    x: Array, lengths: NDArray[np.int64], backend: Backend, *, batch_first: bool = False
) -> tuple[Array, Packing]:
    """Pack ``x (T, B, ...)`` (or ``(B, T, ...)`` with ``batch_first``), padding dropped.

    ``lengths`` come in any order. Raises :class:`InputError` where one is below 1 or above T.
    """
    if batch_first:
        x = x.swapaxes(0, 1)
    packing = Packing(np.asarray(lengths), backend)
    steps, batch = x.shape[:2]
    if len(packing.lengths) != batch:
        raise InputError(f"{len(packing.lengths)} lengths for {batch} sequences; give one for each")
    if packing.lengths.max() > steps:
        row = int(np.argmax(packing.lengths))
        raise InputError(f"lengths[{row}] is {packing.lengths[row]}, but x has {steps} steps")
    flat = x.reshape(steps * batch, *x.shape[2:])
    return flat.take(_padded_places(packing), axis=0), packing


def pad_packed_sequence(data: Array, packing: Packing, *, batch_first: bool = False) -> Array:
    """Undo :func:`pack_padded_sequence`: ``(T, B, ...)`` in the caller's order, zero-padded."""
    steps, batch = len(packing.batch_sizes), len(packing.lengths)
    flat = packing.backend.zeros((steps * batch, *data.shape[1:]), data.dtype)
    flat[_padded_places(packing)] = data
    padded = flat.reshape(steps, batch, *data.shape[1:])
    return padded.swapaxes(0, 1) if batch_first else padded


def _padded_places(packing: Packing) -> Array:
    """Where each packed row lies in a padded ``(T * B)`` layout of the caller's order."""
    batch = len(packing.lengths)
    steps = np.arange(len(packing.batch_sizes))[:, None]
    return packing.backend.asarray((steps * batch + packing.order)[packing.running])
