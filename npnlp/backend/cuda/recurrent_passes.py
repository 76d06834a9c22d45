"""A recurrent layer with kernels for its loops over time, and array calls for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from npnlp.backend.cuda import recurrence, reset_before
from npnlp.backend.cuda.affine import Affine
from npnlp.backend.cuda.kernel_source import NULL, REALS, grid_of, real_option
from npnlp.backend.operations import Array, LookedUp, PackedSteps, Rows, States, Weights
from npnlp.backend.tuned.loop import SegmentSum, TunedPasses
from npnlp.backend.tuned.maps import AffineMaps


def supports(kind: str, dtype: Any) -> bool:
    """Whether there are kernels for this cell and dtype."""
    return recurrence.supports(kind, dtype) or (
        kind == reset_before.KIND and np.dtype(dtype).name in REALS
    )


class KernelPasses(TunedPasses):
    """As :class:`TunedPasses`, for a cell with kernels: :func:`supports`."""

    def __init__(
        self, kind: str, hidden_size: int, maps: AffineMaps, segment_sum: SegmentSum, kernels: Any
    ) -> None:
        super().__init__(kind, hidden_size, maps, segment_sum)
        self.kernels = kernels

    def _forward(
        self, x: Rows, weights: Weights, initial: States | None, steps: PackedSteps
    ) -> tuple[Array, ...]:
        cell = self.cell
        u, w_hh = self._begin(x, weights)
        shape = (u.shape[-2], cell.hidden_size)
        arrays = u, *(self.xp.empty(shape, dtype=u.dtype) for _ in cell.arrays[1:])
        if self.kind == reset_before.KIND:
            reset_before.forward(self.xp, self.kernels, arrays, w_hh, initial, *steps.on_device)
            return arrays
        recurrence.forward(
            self.xp, self.kind, arrays, w_hh, cell.bias_in_step(weights.b_hh), initial,
            *steps.on_device,
        )  # fmt: skip
        return arrays

    def _begin(self, x: Rows, weights: Weights) -> tuple[Array, Array]:
        """``u`` of every packed row and ``W_hh``, both with the rows of gates negated."""
        cell = self.cell
        bias = cell.scaled(cell.bias_of_input(weights.b_ih, weights.b_hh))
        return self._project(x, cell.scaled(weights.w_ih), bias), cell.scaled(weights.w_hh)

    def _run_backward(
        self, d_hidden: Array | None, d: States, delta: Array, arrays: Sequence[Array],
        w_hh: Array, initial: States | None, steps: PackedSteps, traces: States | None,
    ) -> None:  # fmt: skip
        if self.kind == reset_before.KIND:
            reset_before.backward(
                self.xp, self.kernels, tuple(arrays), w_hh, d_hidden, d, delta, traces,
                *steps.on_device, initial,
            )  # fmt: skip
            return
        recurrence.backward(
            self.xp, self.kind, tuple(arrays), w_hh, d_hidden, d, delta, traces, *steps.on_device,
            initial,
        )  # fmt: skip


class CapturedPasses(KernelPasses):
    """The same for captured steps: what stands around the loops is in few launches, too."""

    def _begin(self, x: Rows, weights: Weights) -> tuple[Array, Array]:
        """See :meth:`KernelPasses._begin`; a product, and ``kernels/gates.cu``."""
        cell, xp, gates = self.cell, self.xp, self.cell.gates
        table, tokens = (x.table, x.tokens) if isinstance(x, LookedUp) else (x, None)
        projected = Affine(xp, self.kernels).product(table, weights.w_ih.T)
        shape = (len(x), cell.hidden_size) if gates == 1 else (gates, len(x), cell.hidden_size)
        u, w_hh = xp.empty(shape, dtype=projected.dtype), weights.w_hh
        negated = w_hh if gates == 1 else xp.empty_like(w_hh)
        kernel = self.kernels.get("gates.cu", "gates", real_option(u.dtype))
        kernel(*grid_of(u.size + (w_hh.size if gates > 1 else 0)), (
            projected, NULL if tokens is None else tokens, weights.b_ih, weights.b_hh, w_hh, u,
            NULL if gates == 1 else negated, np.int64(len(x)),
            *map(np.int32, (cell.hidden_size, gates, cell.candidate)),
            np.int32(cell.bias_in_step(weights.b_hh) is not None),
        ))  # fmt: skip
        return u, negated

    def _backward(
        self, d_hidden: Array | None, d: States, delta: Array, arrays: Sequence[Array],
        x: Rows, weights: Weights, grads: Weights, initial: States | None, steps: PackedSteps,
        traces: States | None,
    ) -> Array:  # fmt: skip
        """See :meth:`TunedPasses._backward`; each gradient of a bias is in that of its weights."""
        cell, affine = self.cell, Affine(self.xp, self.kernels)
        self._run_backward(d_hidden, d, delta, arrays, weights.w_hh, initial, steps, traces)
        named = dict(zip(cell.arrays, arrays, strict=True))
        for gates, columns, name, before in cell.operands():
            places = steps.previous_rows if before else None
            first = initial[0] if before and initial is not None else None
            affine.add_gradients(
                delta[:, columns], named[name], grads.w_hh[gates], grads.b_hh[gates], places, first
            )  # undoes (2)
        if isinstance(x, LookedUp):
            delta = self.segment_sum(delta, x.tokens, len(x.table))  # undoes (1')
            x = x.table
        return affine.backward(
            cell.of_input(delta), x, weights.w_ih, grads.w_ih, grads.b_ih
        )  # undoes (1)
