"""Packed sequences: a batch of variable length with no padded step in it.

Sequences are sorted by length, longest first, and their steps are laid out time-major: the first
step of every sequence, then the second step of every sequence that has one, and so on. ``data (N,
...)`` has ``N = sum(lengths)`` rows; step ``t`` has ``batch_sizes[t]`` of them, one for each of the
first ``batch_sizes[t]`` sorted sequences.

    lengths 3, 2, 1:   a1 b1 c1 | a2 b2 | a3        batch_sizes 3, 2, 1
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend, as_backend
from npnlp.backend.layout import Integers, Layout
from npnlp.errors import InputError

#: The most rows of a batch: kernels count them in 32 bits.
MOST_ROWS = 2**31 - 1


@dataclass(frozen=True, eq=False, repr=False)
class Packing:
    """Which packed row holds which step of which sequence; see :meth:`of`.

    Arrays with one row per sequence are in the caller's order wherever a layer takes or returns
    them; the sorted order is internal. On the host: ``lengths (B,)``; ``order (B,)``, the sequence
    at each sorted place, or None where the caller's order is sorted; ``runs (2, T)`` int32, the
    first row and the number of rows of each step (as lists: ``offsets``, ``batch_sizes``). On the
    backend: ``last_rows (B,)``, the row of each sequence's last step, and ``previous_rows
    (N - B,)``, for each row of steps 1 to T - 1 the row of the step before.
    """

    backend: Backend
    lengths: Integers
    order: Integers | None
    runs: NDArray[np.int32]
    last_rows: Array
    previous_rows: Array

    @classmethod
    def of(cls, lengths: Integers, backend: Backend | str) -> Self:
        """The packing of sequences of these lengths, in any order.

        Raises :class:`InputError` where they are not whole numbers above 0.
        """
        backend, lengths = as_backend(backend), _lengths(lengths, 1, "(B,) with B > 0")
        order = np.argsort(-lengths, kind="stable")
        (packed,), _ = pack_many(lengths[order][None], backend)
        if (order[1:] > order[:-1]).all():
            return packed  # type: ignore[return-value]
        unsorted = backend.asarray(np.argsort(order, kind="stable"))
        last_rows = packed.last_rows.take(unsorted, axis=0)
        return cls(backend, lengths, order, packed.runs, last_rows, packed.previous_rows)

    def __repr__(self) -> str:
        count, steps = len(self.lengths), self.runs.shape[1]
        return f"<Packing of {count:,} sequences, {self.rows:,} rows, longest {steps:,}>"

    @property
    def longest_first(self) -> Integers:
        """``lengths (B,)`` in sorted order."""
        return self.lengths if self.order is None else self.lengths[self.order]

    @property
    def rows(self) -> int:
        """``N``, the number of packed rows."""
        return len(self.lengths) + len(self.previous_rows)

    @cached_property
    def offsets(self) -> list[int]:
        """The first row of each step ``(T,)``."""
        return self.runs[0].tolist()  # type: ignore[no-any-return]

    @cached_property
    def batch_sizes(self) -> list[int]:
        """How many rows each step has ``(T,)``."""
        return self.runs[1].tolist()  # type: ignore[no-any-return]

    @cached_property
    def steps(self) -> Integers:
        """The step of each packed row ``(N,)``, on the host."""
        return np.repeat(np.arange(self.runs.shape[1]), self.runs[1])

    @cached_property
    def places(self) -> Integers:
        """The sorted place of each packed row's sequence ``(N,)``, on the host."""
        places: Integers = np.arange(self.rows) - np.repeat(self.runs[0], self.runs[1])
        return places

    @cached_property
    def on_device(self) -> tuple[Array, Array, int, int]:
        """``offsets`` and ``batch_sizes (T,)`` int32 on the backend, B and T: for kernels."""
        offsets, sizes = self.backend.asarray(self.runs)
        return offsets, sizes, len(self.lengths), self.runs.shape[1]

    @cached_property
    def spare(self) -> bool:
        """Whether arrays may have rows behind the last step of all, as in captured steps."""
        return False

    def without_spare(self, x: Array) -> Array:
        """Packed rows ``(N, ...)`` with zeros in those that belong to no sequence."""
        if not self.spare:
            return x
        offsets, sizes, _, _ = self.on_device
        there: Array = self.backend.xp.arange(self.rows) < offsets[-1] + sizes[-1]
        return x * there[:, None]

    def sort(self, x: Array) -> Array:
        """A copy of the caller's rows ``(B, ...)`` in sorted order."""
        self.expect("x", x, len(self.lengths))
        return x.copy() if self.order is None else x.take(self.backend.asarray(self.order), axis=0)

    def unsort(self, x: Array) -> Array:
        """Sorted rows ``(B, ...)`` back in the caller's order."""
        self.expect("x", x, len(self.lengths))
        if self.order is None:
            return x
        return x.take(self.backend.asarray(np.argsort(self.order, kind="stable")), axis=0)

    @property
    def lags(self) -> Integers:
        """The number of steps from each packed row to its sequence's last step ``(N,)``."""
        return self.longest_first[self.places] - 1 - self.steps

    def reverse(self, x: Array) -> Array:
        """Packed rows ``(N, ...)`` with the steps of each sequence in reverse order.

        It is its own inverse, and its own backward pass.
        """
        self.expect("x", x, self.rows)
        return x.take(self.reversed_rows, axis=0)

    @cached_property
    def reversed_rows(self) -> Array:
        """For step t of a sequence of L steps the row of its step L - 1 - t ``(N,)``."""
        return self.backend.asarray(self.runs[0].take(self.lags) + self.places)

    @property
    def sequences(self) -> Integers:
        """The sequence of each packed row, numbered in the caller's order ``(N,)``."""
        return self.places if self.order is None else self.order[self.places]

    def expect(self, name: str, x: Any, rows: int) -> None:
        """Raise :class:`InputError` unless ``x`` is an array of so many rows."""
        shape = getattr(x, "shape", None)
        if not shape or shape[0] != rows:
            found = f"of shape {shape}" if shape else f"a {type(x).__name__}"
            raise InputError(f"{name} is {found}; it has to be an array of {rows} rows")

    def padded_rows(self) -> Array:
        """The index of each packed row in padded ``(T * B)`` rows, in the caller's order."""
        return self.backend.asarray(self.steps * len(self.lengths) + self.sequences)


def pack_many(lengths: Integers, backend: Backend) -> tuple[list[Packing], Layout]:
    """The packings of K batches of ``lengths (K, B)``, each row sorted longest first.

    Also returns the layout of all K batches, on the host. Raises :class:`InputError` where lengths
    are not whole numbers above 0, or not sorted.
    """
    lengths = _lengths(lengths, 2, "(K, B) with B > 0")
    if (lengths[:, 1:] > lengths[:, :-1]).any():
        raise InputError("lengths of a batch are not sorted; give the longest first")
    layout = backend.lay_out(lengths)
    batch, longest = lengths.shape[1], lengths[:, 0].tolist()
    last_rows, previous_rows = map(backend.asarray, (layout.last_rows, layout.previous_rows))
    packings, start = [], 0
    for k, end in enumerate(layout.ends.tolist()):
        runs, previous = layout.runs[k, :, : longest[k]], previous_rows[start + batch : end]
        packings.append(Packing(backend, lengths[k], None, runs, last_rows[k], previous))
        start = end
    return packings, layout


def _lengths(given: Any, axes: int, shape: str) -> Integers:
    """A copy of ``given`` as int64; :class:`InputError` where they are no lengths."""
    try:
        lengths = np.array(given)
    except ValueError:  # rows of different sizes
        lengths = np.array(None)
    if lengths.ndim != axes or lengths.size == 0 or lengths.dtype.kind not in "iu":
        raise InputError(
            f"lengths have to be whole numbers of shape {shape}; they are {lengths.dtype} of shape "
            f"{lengths.shape}"
        )
    if not (lengths >= 1).all():
        row = int(lengths.argmin())
        raise InputError(
            f"lengths[{row}] is {lengths.flat[row]}; every sequence has to have at least one step"
        )
    if lengths.sum(dtype=np.float64) > MOST_ROWS:
        raise InputError(f"lengths add up to more than {MOST_ROWS:,}; take a smaller batch")
    return lengths.astype(np.int64, copy=False)


def pack_padded_sequence(
    x: Array, lengths: Integers, backend: Backend | str, *, batch_first: bool = False
) -> tuple[Array, Packing]:
    """Pack ``x (T, B, ...)`` (or ``(B, T, ...)`` with ``batch_first``), leaving padding out.

    ``lengths`` come in any order. Raises :class:`InputError` where one is below 1 or above T.
    """
    if len(getattr(x, "shape", ())) < 2:
        found = f"of shape {x.shape}" if hasattr(x, "shape") else f"a {type(x).__name__}"
        raise InputError(f"x is {found}; it has to be an array of shape (T, B, ...)")
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
    packing.expect("data", data, packing.rows)
    steps, batch = len(packing.batch_sizes), len(packing.lengths)
    flat = packing.backend.zeros((steps * batch, *data.shape[1:]), data.dtype)
    flat[packing.padded_rows()] = data
    padded = flat.reshape(steps, batch, *data.shape[1:])
    return padded.swapaxes(0, 1) if batch_first else padded
