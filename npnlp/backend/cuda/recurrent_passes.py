"""A recurrent layer with kernels for its loops over time, and array calls for the rest."""

from __future__ import annotations

from collections.abc import Sequence

from npnlp.backend.cuda import recurrence
from npnlp.backend.operations import Array, PackedSteps, States, Weights
from npnlp.backend.tuned.loop import TunedPasses


class KernelPasses(TunedPasses):
    """As :class:`TunedPasses`, for a cell that ``recurrence.supports``."""

    def _run(
        self, arrays: Sequence[Array], weights: Weights, initial: States | None,
        steps: PackedSteps,
    ) -> None:  # fmt: skip
        cell = self.cell
        recurrence.forward(
            self.xp, self.kind, tuple(arrays), cell.scaled(weights.w_hh),
            cell.bias_in_step(weights.b_hh),
            initial, *steps.on_device,
        )  # fmt: skip

    def _run_backward(
        self, d_hidden: Array | None, d: States, delta: Array, arrays: Sequence[Array],
        w_hh: Array, initial: States | None, steps: PackedSteps, traces: States | None,
    ) -> None:  # fmt: skip
        recurrence.backward(
            self.xp, self.kind, tuple(arrays), w_hh, d_hidden, d, delta, traces, *steps.on_device,
            initial,
        )  # fmt: skip
