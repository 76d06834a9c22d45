"""A recurrent layer in one compiled call forward and one backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from npnlp.backend.compiled.dtypes import plain, plain_indices
from npnlp.backend.compiled.loops import elman, gru, lstm
from npnlp.backend.compiled.threads.sharing import share_meeting
from npnlp.backend.operations import Array, LookedUp, PackedSteps, Rows, States, Weights
from npnlp.backend.tuned.loop import TunedPasses

#: The passes of each kind of cell, and their extra arguments.
LOOPS: dict[str, tuple[Any, tuple[bool, ...]]] = {
    "elman_tanh": (elman, (False,)),
    "elman_relu": (elman, (True,)),
    "gru": (gru, ()),
    "lstm": (lstm, ()),
}
NO_TOKENS = np.empty(0, dtype=np.int64)


class CompiledPasses(TunedPasses):
    """As :class:`TunedPasses`, for a cell in :data:`LOOPS` and float32 or float64."""

    def _forward(
        self, x: Rows, weights: Weights, initial: States | None, steps: PackedSteps
    ) -> tuple[Array, ...]:
        (passes, options), cell = LOOPS[self.kind], self.cell
        w_ih, w_hh, b_ih, b_hh = weights
        rows, units, dtype = len(x), cell.hidden_size, w_hh.dtype
        arrays = tuple(np.empty((rows, units), dtype=dtype) for _ in cell.arrays[1:])
        first = np.empty((cell.gates, rows, units), dtype=dtype)
        input_rows, tokens = _input(x)
        table = first
        if isinstance(x, LookedUp):
            table = np.empty((cell.gates, len(input_rows), units), dtype=dtype)
        bias, extra = cell.bias_of_input(b_ih, b_hh), cell.bias_in_step(b_hh)
        whole = (first if cell.gates > 1 else first[0], *arrays)
        arguments = (
            input_rows, w_ih.T, bias.reshape(-1, units), tokens, table, *whole, w_hh.T,
            *(() if extra is None else (plain(extra),)), *self._initial(initial, w_hh),
            steps.runs[1], *options,
        )  # fmt: skip
        each = rows * len(w_hh) + input_rows.size * cell.gates
        share_meeting(passes.forward, arguments, units, each)
        return whole

    def _backward(
        self, d_hidden: Array | None, d: States, delta: Array, arrays: Sequence[Array],
        x: Rows, weights: Weights, grads: Weights, initial: States | None, steps: PackedSteps,
        traces: States | None,
    ) -> Array:  # fmt: skip
        (passes, options), w_hh = LOOPS[self.kind], weights.w_hh
        d_w_ih, d_w_hh, d_b_ih, d_b_hh = _own(*grads)
        input_rows, tokens = _input(x)
        dx = np.empty((len(input_rows), weights.w_ih.shape[1]), dtype=w_hh.dtype)
        d_table, none = delta, _no_rows(w_hh)
        if isinstance(x, LookedUp):
            d_table = np.zeros((len(dx), delta.shape[1]), dtype=delta.dtype)
        arguments = (
            *_own(*arrays), w_hh, none if d_hidden is None else plain(d_hidden),
            *_own(*d, delta), *(_own(*traces) if traces else (none,) * len(d)),
            steps.runs[1], steps.previous_rows, *self._initial(initial, w_hh), d_w_hh,
            input_rows, tokens, d_table, weights.w_ih, d_w_ih, d_b_ih, d_b_hh, dx, *options,
        )  # fmt: skip
        each = 2 * (len(delta) * len(w_hh) + dx.size * self.cell.gates)
        share_meeting(passes.backward, arguments, w_hh.shape[1], each)
        return dx

    def _initial(self, given: States | None, w_hh: Array) -> tuple[Array, ...]:
        return tuple(map(plain, given)) if given else (_no_rows(w_hh),) * len(self.cell.states)


def _no_rows(w_hh: Array) -> Array:
    """Stands for None, so that one compiled function serves both cases."""
    return w_hh[:0]


def _input(x: Rows) -> tuple[Array, Array]:
    """The rows or the table, and the tokens."""
    if isinstance(x, LookedUp):
        return plain(x.table), plain_indices(x.tokens)
    return plain(x), NO_TOKENS


def _own(*arrays: Array) -> tuple[Array, ...]:
    """Arrays that a pass writes to, so they must not be copied."""
    for array in arrays:
        if not array.flags.c_contiguous:
            raise ValueError("a recurrence has to write to an array that is not contiguous")
    return arrays
