"""NumPy's recurrent passes: both loops over time on reused arrays.

The reference is :mod:`npnlp.layers.recurrent.through_time`. Its equation (2) is split here: (2) is
the matrix product with ``W_hh``, and (3) is the rest of the cell's step.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from npnlp.backend.operations import (
    Array,
    Backward,
    Forward,
    LookedUp,
    PackedSteps,
    Rows,
    States,
    Weights,
)
from npnlp.backend.tuned import blocks
from npnlp.backend.tuned.cell import TunedCell
from npnlp.backend.tuned.elman import Elman, ReLUElman
from npnlp.backend.tuned.gru import GRU, GRUResetBefore
from npnlp.backend.tuned.lstm import LSTM
from npnlp.backend.tuned.maps import AffineMaps
from npnlp.backend.tuned.products import (
    backward_product,
    forward_product,
    nowhere,
    zeros_before,
)

CELLS: dict[str, type[TunedCell]] = {
    "elman_tanh": Elman, "elman_relu": ReLUElman, "gru": GRU, "gru_reset_before": GRUResetBefore,
    "lstm": LSTM,
}  # fmt: skip

#: ``segment_sum(values, segments, size)`` of a backend.
SegmentSum = Callable[[Array, Array, int], Array]


class TunedPasses:
    """Both passes of the cell called ``kind``; see :class:`RecurrentPasses`."""

    def __init__(
        self, kind: str, hidden_size: int, maps: AffineMaps, segment_sum: SegmentSum
    ) -> None:
        self.kind, self.maps, self.xp, self.segment_sum = kind, maps, maps.xp, segment_sum
        cell = self.cell = CELLS[kind](hidden_size, maps.xp)
        self._states = [cell.arrays.index(name) for name in cell.states]
        self._memory = [cell.arrays.index(name) for name in cell.memory]

    def forward(
        self, x: Rows, weights: Weights, initial: States | None, steps: PackedSteps
    ) -> Forward:
        """See :meth:`RecurrentPasses.forward`."""
        arrays = self._forward(x, weights, initial, steps)
        return Forward(
            tuple([arrays[place] for place in self._states]),
            tuple([arrays[place] for place in self._memory]),
        )

    def backward(
        self, d_hidden: Array | None, d_last: States, found: Forward, x: Rows, weights: Weights,
        grads: Weights, initial: States | None, steps: PackedSteps, *, traced: bool,
    ) -> Backward:  # fmt: skip
        """See :meth:`RecurrentPasses.backward`."""
        cell, hidden = self.cell, found.states[0]
        arrays: list[Array] = [hidden] * len(cell.arrays)
        for place, array in zip(self._states, found.states, strict=True):
            arrays[place] = array
        for place, array in zip(self._memory, found.memory, strict=True):
            arrays[place] = array
        delta = self.xp.empty((len(hidden), cell.deltas * cell.hidden_size), dtype=hidden.dtype)
        traces = tuple(map(self.xp.empty_like, found.states)) if traced else None
        d_x = self._backward(
            d_hidden, d_last, delta, arrays, x, weights, grads, initial, steps, traces
        )
        return Backward(d_x, d_last, traces, cell.of_input(delta) if traced else None)

    def _forward(
        self, x: Rows, weights: Weights, initial: States | None, steps: PackedSteps
    ) -> tuple[Array, ...]:
        """Fill the arrays of the cell, and return them."""
        cell, xp = self.cell, self.xp
        bias = cell.arranged(cell.bias_of_input(weights.b_ih, weights.b_hh))
        first, inputs = self._inputs(x, cell.arranged(weights.w_ih), bias, len(steps.lengths))
        shape = (len(x), cell.hidden_size)
        arrays = first, *(xp.empty(shape, dtype=first.dtype) for _ in cell.arrays[1:])
        # In a closed gate e^-a may be infinite.
        with np.errstate(over="ignore") if cell.gates > 1 else nullcontext():
            self._run(arrays, inputs, weights, initial, steps)  # (2), (3)
        return arrays

    def _backward(
        self, d_hidden: Array | None, d: States, delta: Array, arrays: Sequence[Array],
        x: Rows, weights: Weights, grads: Weights, initial: States | None, steps: PackedSteps,
        traces: States | None,
    ) -> Array:  # fmt: skip
        """``dL/dx``; ``delta``, ``d``, ``grads`` and ``traces`` are filled or added to."""
        self._run_backward(d_hidden, d, delta, arrays, weights.w_hh, initial, steps, traces)
        self._add_recurrent_grads(delta, grads.w_hh, arrays, initial, steps)
        return self._undo_projection(delta, x, weights, grads)

    def _project(self, x: Rows, weight: Array, bias: Array) -> Array:
        """(1): ``(N, H)``, or ``(G, N, H)`` for a cell with several gates."""
        if not isinstance(x, LookedUp):
            return self.maps.affine(x, weight, bias, self.cell.gates)
        u = self.maps.affine(x.table, weight, bias, self.cell.gates)
        return u.take(x.tokens, axis=u.ndim - 2)  # (1'), the look-up

    def _inputs(
        self, x: Rows, weight: Array, bias: Array, batch: int
    ) -> tuple[Array, Callable[[slice], Array]]:
        """The first array of the cell, and ``u`` of some packed rows.

        With one gate the array holds all ``u``. Those of several gates are gathered as they are
        used, into one small array.
        """
        gates, size, xp = self.cell.gates, self.cell.hidden_size, self.xp
        if gates == 1:
            u = self._project(x, weight, bias)
            return u, lambda rows: u[rows]
        given, tokens = (x.table, x.tokens) if isinstance(x, LookedUp) else (x, None)
        table = self.maps.affine(given, weight, bias, gates)  # (1)
        scratch = xp.empty(gates * batch * size, dtype=table.dtype)
        room = scratch[:0]

        def gather(rows: slice) -> Any:
            nonlocal room
            some = gates * (rows.stop - rows.start) * size
            if room.size != some:
                room = scratch[:some].reshape(gates, -1, size)
            if tokens is None:
                room[...] = table[:, rows]
            else:  # all are there: to clip them spares the copy that NumPy makes where it may raise
                table.take(tokens[rows], axis=1, out=room, mode="clip")  # (1')
            return room

        if tokens is None:
            return table, gather
        return xp.empty((gates, len(tokens), size), dtype=table.dtype), gather

    def _run(
        self, arrays: Sequence[Array], inputs: Callable[[slice], Array], weights: Weights,
        initial: States | None, steps: PackedSteps,
    ) -> None:  # fmt: skip
        """(2) and (3) over all steps, filling ``arrays``."""
        cell, (first, *others), batch = self.cell, arrays, len(steps.lengths)
        w_hh = cell.arranged(weights.w_hh)
        recur = product = forward_product(w_hh, batch, self.xp, self.maps.small)
        before: Sequence[Array] | None = initial
        if before is None:
            before, product = zeros_before(w_hh, batch, len(cell.states), self.xp)
        places = [cell.arrays.index(name) for name in cell.states]
        constants, step, gated = cell.constants(weights.b_hh, batch), cell.step, first.ndim == 3
        for start, size in zip(steps.offsets, steps.batch_sizes, strict=True):
            rows = slice(start, start + size)
            u = inputs(rows)
            now = [first[:, rows], *[array[rows] for array in others]] if gated else [u]
            if len(before[0]) > size:
                before = [state[:size] for state in before]
            step(now, u, before, product, *constants)  # (2), (3)
            before, product = [now[place] for place in places] if others else now, recur

    def _run_backward(
        self, d_hidden: Array | None, d: States, delta: Array, arrays: Sequence[Array],
        w_hh: Array, initial: States | None, steps: PackedSteps, traces: States | None,
    ) -> None:  # fmt: skip
        """Fill ``delta`` of every packed row; ``d`` become the gradients of the initial states.

        ``traces``, if given, get the gradients of the states of every packed row.
        """
        xp, cell, batch, dtype = self.xp, self.cell, len(d[0]), delta.dtype
        offsets, sizes, wide = steps.offsets, steps.batch_sizes, cell.factors
        back = backward_product(w_hh, batch, xp, self.maps.small)
        room_rows = min(max(batch, blocks.BLOCK), steps.rows)
        room = xp.empty((cell.scratch, room_rows, cell.hidden_size), dtype=dtype)
        factors = xp.empty((batch, wide * cell.hidden_size), dtype=dtype)
        if cell.gates > 1:
            arrays = *arrays, self._before(arrays, initial, steps)
        # Row b of d is not used before the loop is at the last step of sequence b.
        ready, size = len(offsets), 0
        step_backward, towards = cell.step_backward, back
        for t in range(len(offsets) - 1, -1, -1):
            start, end = offsets[t], offsets[t] + sizes[t]
            if t < ready:  # the slopes of a block of steps, this one the last
                ready = min(t, bisect_left(offsets, end - blocks.BLOCK))
                base = offsets[ready]
                rows = slice(base, end)
                slopes = cell.slopes(
                    [array[..., rows, :] for array in arrays], delta[rows], room[:, : end - base]
                )
            if size != sizes[t]:
                size = sizes[t]
                d_t, factors_t = [state[:size] for state in d], factors[:size]
            if d_hidden is not None:
                d_t[0] += d_hidden[start:end]
            if traces is not None:
                for trace, state in zip(traces, d_t, strict=True):
                    trace[start:end] = state
            here: Any = slopes and [slope[start - base : end - base] for slope in slopes]
            if wide:
                here.append(factors_t)
            if t == 0 and initial is None:
                towards = nowhere
            step_backward(delta[start:end], here, d_t, towards)  # undoes (3), (2)

    def _before(self, arrays: Sequence[Array], initial: States | None, steps: PackedSteps) -> Array:
        """The last of the cell's states in the step before each packed row: ``(N, H)``."""
        carried, batch = arrays[self._states[-1]], len(steps.lengths)
        before: Array = self.xp.empty_like(carried)
        before[:batch] = 0 if initial is None else initial[-1]
        # All rows are there: to clip them spares the copy that NumPy makes where it may raise.
        carried.take(steps.previous_rows, axis=0, out=before[batch:], mode="clip")
        return before

    def _add_recurrent_grads(
        self, delta: Array, grad: Array, arrays: Sequence[Array], initial: States | None,
        steps: PackedSteps,
    ) -> None:  # fmt: skip
        cell, add_outer, first = self.cell, self.maps.add_outer, len(steps.lengths)
        named = dict(zip(cell.arrays, arrays, strict=True))
        for gates, columns, name, before in cell.operands():
            later, rows = (delta[first:], steps.previous_rows) if before else (delta, None)
            add_outer(grad[gates], later[:, columns], named[name], rows)  # undoes (2)
            if before and initial is not None:
                add_outer(grad[gates], delta[:first, columns], initial[0], None)

    def _undo_projection(self, delta: Array, x: Rows, weights: Weights, grads: Weights) -> Array:
        cell = self.cell
        if isinstance(x, LookedUp):
            delta = self.segment_sum(delta, x.tokens, len(x.table))  # undoes (1')
            x = x.table
        d_u, d_p = cell.of_input(delta), cell.of_product(delta)
        sums = self.xp.zeros(len(weights.w_ih), dtype=delta.dtype)
        d_x = self.maps.affine_backward(d_u, x, weights.w_ih, grads.w_ih, sums)  # undoes (1)
        grads.b_ih[...] += sums
        grads.b_hh[...] += sums if d_p is d_u else d_p.sum(axis=0)  # undoes (2)
        return d_x
