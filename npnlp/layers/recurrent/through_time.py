"""The loop over time, and backpropagation through it: the reference.

    (1)  u_n = W_ih x_n + b_ih                      all N packed rows at once
    (2)  states_t = cell.step(u_t, states_{t-1})    the loop, over the sequences still running

Backward, with ``d_t = dL/d states_t``, what comes back from step t + 1 and from above:

    undoes (2)  dL/du_t, d_{t-1} = cell.step_backward(d_t, ...)       from the last step down
    undoes (1)  dL/dW_ih = sum_n dL/du_n x_n^T,  dL/db_ih = sum_n dL/du_n,  dL/dx_n = W_ih^T dL/du_n

A batch is packed (:mod:`npnlp.layers.packing`): of sequences sorted by length, longest first, step
t has rows ``offsets[t]`` to ``offsets[t] + batch_sizes[t]``, one for each sequence that has such a
step. Source: Elman, "Finding structure in time", 1990; Werbos, "Backpropagation through time: what
it does and how to do it", 1990.
"""

from __future__ import annotations

from npnlp.backend import Array
from npnlp.backend.operations import (
    Backward,
    Forward,
    LookedUp,
    PackedSteps,
    Rows,
    States,
    Weights,
)
from npnlp.layers.recurrent.cell import Cell


class ThroughTime:
    """Both passes of ``cell``; shapes are those of :class:`RecurrentPasses`."""

    def __init__(self, cell: Cell) -> None:
        self.cell, self.backend = cell, cell.backend

    def forward(
        self, x: Rows, weights: Weights, initial: States | None, steps: PackedSteps
    ) -> Forward:
        """(1) and (2)."""
        xp, cell = self.backend.xp, self.cell
        rows = x.table if isinstance(x, LookedUp) else x
        u = rows @ weights.w_ih.T + weights.b_ih  # (1)
        if isinstance(x, LookedUp):
            u = u.take(x.tokens, axis=0)  # (1'), the look-up
        found, now = [], initial or self._zeros(len(steps.lengths), u)
        for start, size in zip(steps.offsets, steps.batch_sizes, strict=True):
            before = tuple(state[:size] for state in now)
            now, memory = cell.step(u[start : start + size], before)  # (2)
            found.append((*now, *memory))
        arrays = [xp.concatenate(of_steps, axis=-2) for of_steps in zip(*found, strict=True)]
        count = len(cell.states)
        return Forward(tuple(arrays[:count]), tuple(arrays[count:]))

    def backward(
        self, d_hidden: Array | None, d_last: States, found: Forward, x: Rows, weights: Weights,
        grads: Weights, initial: States | None, steps: PackedSteps, *, traced: bool = True,
    ) -> Backward:  # fmt: skip
        """Undo (2), from the last step down, and (1)."""
        xp, (states, memory) = self.backend.xp, found
        d_states = tuple(xp.empty_like(state) for state in states)
        d_u = xp.empty((len(states[0]), len(weights.w_ih)), dtype=states[0].dtype)
        first = initial or self._zeros(len(steps.lengths), d_u)
        d = list(d_last)  # row b waits until the loop comes down to sequence b's last step
        for t in range(len(steps.offsets) - 1, -1, -1):
            size, rows = steps.batch_sizes[t], _rows(steps, t)
            for d_state, d_rows in zip(d, d_states, strict=True):
                d_rows[rows] = d_state[:size]
            if d_hidden is not None:
                d_states[0][rows] += d_hidden[rows]
            before = first
            if t:
                before = tuple(state[_rows(steps, t - 1)][:size] for state in states)
            d_u[rows], d_before = self.cell.step_backward(
                tuple(d_rows[rows] for d_rows in d_states),
                tuple(state[rows] for state in states),
                before,
                tuple(array[..., rows, :] for array in memory),
            )  # undoes (2)
            for d_state, d_of_before in zip(d, d_before, strict=True):
                d_state[:size] = d_of_before
        d_x = self._undo_projection(d_u, x, weights, grads)  # undoes (1)
        return Backward(d_x, tuple(d), d_states, d_u)

    def _undo_projection(self, d_u: Array, x: Rows, weights: Weights, grads: Weights) -> Array:
        if isinstance(x, LookedUp):
            d_u = self.backend.segment_sum(d_u, x.tokens, len(x.table))  # undoes (1')
            x = x.table
        grads.w_ih[...] += d_u.T @ x  # undoes (1): W_ih
        grads.b_ih[...] += d_u.sum(axis=0)  # undoes (1): b_ih
        return d_u @ weights.w_ih  # undoes (1): x

    def _zeros(self, batch: int, like: Array) -> States:
        zeros = self.backend.zeros((batch, self.cell.hidden_size), like.dtype)
        return (zeros,) * len(self.cell.states)


def _rows(steps: PackedSteps, t: int) -> slice:
    return slice(steps.offsets[t], steps.offsets[t] + steps.batch_sizes[t])
