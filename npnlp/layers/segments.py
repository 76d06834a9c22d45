"""Backpropagation through time over long sequences, segment by segment.

A recurrent layer has to remember every hidden state, ``T H`` numbers a sequence. Cut into segments
of ``size`` steps, with the state carried on from one to the next,

- *recomputation* keeps the states at the cuts alone and runs each segment forward once more when
  its backward pass comes: ``T / size + size`` states, at the price of one more forward pass and
  with the same gradient (Chen, Xu, Zhang and Guestrin, "Training deep nets with sublinear memory
  cost", 2016). ``size`` near ``sqrt(T)`` needs least.
- *truncation* lets no gradient pass a cut: ``dL/dh`` at the beginning of a segment is dropped. The
  forward pass is the same, the gradient is not (Williams and Peng, 1990).

The layer's own loop does the work; a segment is a packed batch with an initial state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from npnlp.backend import Array
from npnlp.errors import InputError
from npnlp.layers.packing import Packing
from npnlp.layers.recurrent import Recurrent


@dataclass(frozen=True)
class Segment:
    """Packed rows ``start`` to ``end``: some steps of the sequences that are still running."""

    start: int
    end: int
    packing: Packing


@dataclass(frozen=True)
class SegmentedCache:
    """``x`` and ``tokens`` of the caller; ``states``, the initial state of each segment ``(b, H)``,
    None for zeros; ``packing`` of the whole.
    """

    x: Array
    tokens: Array | None
    states: list[Array | None]
    packing: Packing

    @property
    def nbytes(self) -> int:
        """Bytes held for backward, counted as :attr:`RecurrentCache.nbytes` counts them."""
        return sum(state.nbytes for state in self.states if state is not None)


class Segmented:
    """``layer`` run in segments of ``size`` steps; it returns each sequence's last state only.

    Parameters and gradients are those of ``layer``. Raises :class:`InputError` for a ``size``
    below 1.
    """

    def __init__(self, layer: Recurrent, size: int, *, truncate: bool = False) -> None:
        if size < 1:
            raise InputError(f"size of a segment is {size}; it has to be at least 1 step")
        self.layer, self.size, self.truncate = layer, size, truncate
        self.backend = layer.backend
        self.parameters, self.grads = layer.parameters, layer.grads

    def zero_grads(self) -> None:
        """Set the layer's gradients to zero."""
        self.layer.zero_grads()

    def astype(self, dtype: Any) -> Self:
        """A copy whose layer has another dtype."""
        return type(self)(self.layer.astype(dtype), self.size, truncate=self.truncate)

    def forward(
        self,
        x: Array,
        h0: Array | None = None,
        *,
        packing: Packing,
        tokens: Array | None = None,
    ) -> tuple[Array, SegmentedCache]:
        """``h_last (B, H)`` in the caller's order; arguments as for :meth:`Recurrent.forward`."""
        state = None if h0 is None else packing.sort(h0)
        last = self.backend.zeros((len(packing.lengths), self.layer.hidden_size), self.layer.dtype)
        states: list[Array | None] = []
        for segment in _segments(packing, self.size):
            running = len(segment.packing.lengths)
            if state is not None:
                state = state[:running].copy()  # a view would hold those that have ended too
            states.append(state)
            (_, state), _ = self._forward(x, tokens, segment, state)
            last[:running] = state  # written over where a sequence goes on
        return packing.unsort(last), SegmentedCache(x, tokens, states, packing)

    def backward(self, d_last: Array, cache: SegmentedCache) -> tuple[Array, Array | None]:
        """``(dL/dx, dL/dh0)``; adds into the layer's gradients."""
        d = cache.packing.sort(d_last)  # of the state that each sequence has come to
        d_x = self.backend.zeros(cache.x.shape, self.layer.dtype)
        segments = _segments(cache.packing, self.size, step=-1)
        for segment, state in zip(segments, reversed(cache.states), strict=True):
            _, again = self._forward(cache.x, cache.tokens, segment, state)
            running = len(segment.packing.lengths)
            d_part, d_state = self.layer.backward((None, d[:running]), again)
            if cache.tokens is None:
                d_x[segment.start : segment.end] = d_part
            else:
                d_x += d_part
            if d_state is not None:
                d[:running] = 0 if self.truncate and segment.start else d_state
        return d_x, None if cache.states[0] is None else cache.packing.unsort(d)

    def _forward(
        self, x: Array, tokens: Array | None, segment: Segment, state: Array | None
    ) -> tuple[tuple[Array, Array], Any]:
        rows = slice(segment.start, segment.end)
        if tokens is None:
            return self.layer.forward(x[rows], state, packing=segment.packing)
        return self.layer.forward(x, state, packing=segment.packing, tokens=tokens[rows])


def _segments(packing: Packing, size: int, step: int = 1) -> Iterator[Segment]:
    """The packed batch cut every ``size`` steps; rows of a segment lie one after another.

    From the first to the last, or the other way with ``step`` -1. Neighbours in which the same
    sequences run all the way share one packing: to count its steps costs as much as to run some.
    """
    part: Packing | None = None
    for first in range(0, len(packing.batch_sizes), size)[::step]:
        running = packing.batch_sizes[first]
        lengths = (packing.longest_first[:running] - first).clip(max=size)
        if part is None or lengths.tolist() != part.lengths.tolist():
            part = Packing.of(lengths, packing.backend)
        start = packing.offsets[first]
        yield Segment(start, start + part.rows, part)
