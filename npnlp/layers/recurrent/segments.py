"""Backpropagation through time over long sequences, segment by segment.

A recurrent layer remembers every state (and a gated one its gates): ``T H`` numbers, or several
times that, for each sequence. Here sequences are cut into segments of ``size`` steps, and the last
states of a segment are the initial states of the next.

- *Recomputation* stores only the states at the cuts, and runs each segment forward again before its
  backward pass: ``T / size + size`` states, at the cost of one more forward pass, with the same
  gradient (Chen, Xu, Zhang and Guestrin, "Training deep nets with sublinear memory cost", 2016).
  ``size`` near ``sqrt(T)`` needs the least memory.
- *Truncation* sets the gradient of the states at each cut to zero. The forward pass is the same,
  the gradient is not (Williams and Peng, 1990).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from npnlp.backend import Array
from npnlp.backend.operations import LookedUp, Rows, States
from npnlp.errors import InputError
from npnlp.layers.arguments import require_cache, require_outputs
from npnlp.layers.packing import Packing
from npnlp.layers.recurrent.memory import RecurrentCache
from npnlp.layers.recurrent.recurrent import Recurrent
from npnlp.summary import summarized


@summarized
@dataclass(frozen=True)
class Segment:
    """Packed rows ``start`` to ``end``: some steps of the sequences that are still running."""

    start: int
    end: int
    packing: Packing


@summarized
@dataclass(frozen=True)
class SegmentedCache:
    """``x`` and ``packing`` of the caller.

    ``states``, the initial states of each segment, each ``(b, H)``, None for zeros.
    """

    x: Rows
    states: list[States | None]
    packing: Packing

    @property
    def nbytes(self) -> int:
        """Bytes held for backward, counted as :attr:`RecurrentCache.nbytes` counts them."""
        return sum(state.nbytes for states in self.states for state in states or ())


class Segmented:
    """``layer`` run in segments of ``size`` steps; it returns each sequence's last states only.

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
        self, x: Rows, *initial: Array | None, packing: Packing
    ) -> tuple[Any, SegmentedCache]:
        """The last states, each ``(B, H)`` in the caller's order: ``h_last``, or for a cell with
        several a tuple of them. Arguments as for :meth:`Recurrent.forward`.
        """
        layer = self.layer
        layer.check_forward(x, *initial, packing=packing)
        given = tuple(packing.sort(state) for state in initial if state is not None)
        now = given or None
        shape = (len(packing.lengths), layer.hidden_size)
        lasts = tuple(self.backend.zeros(shape, layer.dtype) for _ in layer.states)
        at_cuts: list[States | None] = []
        for segment in _segments(packing, self.size):
            running = len(segment.packing.lengths)
            if now is not None:  # a view would hold finished sequences, too
                now = tuple(state[:running].copy() for state in now)
            at_cuts.append(now)
            (_, *ends), _ = self._forward(x, segment, now)
            now = tuple(ends)
            for last, state in zip(lasts, now, strict=True):
                last[:running] = state  # overwritten where a sequence continues
        found = tuple(packing.unsort(last) for last in lasts)
        return found if len(found) > 1 else found[0], SegmentedCache(x, at_cuts, packing)

    def backward(
        self, d_last: Array | tuple[Array | None, ...], cache: SegmentedCache
    ) -> tuple[Any, ...]:
        """``(dL/dx, dL/dh0, ...)`` from the gradients of the last states; adds to ``grads``.

        ``d_last`` is that of ``h_last``, or a tuple of one for each state, None for zeros.
        """
        require_cache(cache, SegmentedCache)
        packing, layer = cache.packing, self.layer
        given = d_last if isinstance(d_last, tuple) else (d_last,)
        require_outputs(given, len(layer.states))
        shape = (len(packing.lengths), layer.hidden_size)
        for place, d_state in enumerate(given):
            if d_state is not None:
                layer.expect(f"d_last[{place}]", d_state, *shape)
        d = tuple(  # of each sequence's current states
            self.backend.zeros(shape, layer.dtype) if state is None else packing.sort(state)
            for state in (*given, *(None for _ in layer.states[len(given) :]))
        )
        d_x = self.backend.xp.zeros_like(
            cache.x.table if isinstance(cache.x, LookedUp) else cache.x
        )
        segments = _segments(packing, self.size, step=-1)
        for segment, states in zip(segments, reversed(cache.states), strict=True):
            _, again = self._forward(cache.x, segment, states)
            running = len(segment.packing.lengths)
            d_part, *d_states = layer.undo((None, *(state[:running] for state in d)), again)
            if not isinstance(cache.x, LookedUp):
                d_x[segment.start : segment.end] = d_part
            else:
                d_x += d_part
            for state, d_state in zip(d, d_states, strict=True):
                if d_state is not None:
                    state[:running] = 0 if self.truncate and segment.start else d_state
        if cache.states[0] is None:
            return (d_x, *(None for _ in d))
        return (d_x, *(packing.unsort(state) for state in d))

    def _forward(
        self, x: Rows, segment: Segment, states: States | None
    ) -> tuple[tuple[Array, ...], RecurrentCache]:
        rows = slice(segment.start, segment.end)
        part = LookedUp(x.table, x.tokens[rows]) if isinstance(x, LookedUp) else x[rows]
        found: Any = self.layer.run(part, *(states or ()), packing=segment.packing)
        return found  # type: ignore[no-any-return]


def _segments(packing: Packing, size: int, step: int = 1) -> Iterator[Segment]:
    """The packed batch cut every ``size`` steps; the rows of a segment are contiguous.

    From the first to the last, or backwards with ``step`` -1. Neighbours with the same lengths use
    the same packing, because making one takes as long as some steps.
    """
    part: Packing | None = None
    for first in range(0, len(packing.batch_sizes), size)[::step]:
        running = packing.batch_sizes[first]
        lengths = (packing.longest_first[:running] - first).clip(max=size)
        if part is None or lengths.tolist() != part.lengths.tolist():
            part = Packing.of(lengths, packing.backend)
        start = packing.offsets[first]
        yield Segment(start, start + part.rows, part)
