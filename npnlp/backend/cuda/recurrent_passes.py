"""A recurrent layer with kernels for its loops over time, and array calls for the rest."""

from __future__ import annotations

from collections.abc import Sequence

from npnlp.backend.cuda import recurrence
from npnlp.backend.operations import Array, PackedSteps, Rows, States, Weights
from npnlp.backend.tuned.loop import TunedPasses


class KernelPasses(TunedPasses):
    """As :class:`TunedPasses`, for a cell that ``recurrence.supports``."""

    def _forward(
        self, x: Rows, weights: Weights, initial: States | None, steps: PackedSteps
    ) -> tuple[Array, ...]:
        cell = self.cell
        bias = cell.scaled(cell.bias_of_input(weights.b_ih, weights.b_hh))
        u = self._project(x, cell.scaled(weights.w_ih), bias)
        shape = (u.shape[-2], cell.hidden_size)
        arrays = u, *(self.xp.empty(shape, dtype=u.dtype) for _ in cell.arrays[1:])
        recurrence.forward(
            self.xp, self.kind, arrays, cell.scaled(weights.w_hh), cell.bias_in_step(weights.b_hh),
            initial, *steps.on_device,
        )  # fmt: skip
        return arrays

    def _run_backward(
        self, d_hidden: Array | None, d: States, delta: Array, arrays: Sequence[Array],
        w_hh: Array, initial: States | None, steps: PackedSteps, traces: States | None,
    ) -> None:  # fmt: skip
        recurrence.backward(
            self.xp, self.kind, tuple(arrays), w_hh, d_hidden, d, delta, traces, *steps.on_device,
            initial,
        )  # fmt: skip
