"""Multi-head self-attention of packed sequences, a launch each way (``kernels/attention.cu``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from npnlp.backend.cuda.kernel_source import real_option
from npnlp.backend.cuda.masks import Masks
from npnlp.backend.operations import Array, PackedSteps
from npnlp.backend.random import Random
from npnlp.backend.step_operations import Attended

#: Threads of a block, as in the source.
THREADS = 128


class KernelAttention:
    """See :class:`AttentionPasses`; of sequences in the caller's order, the longest first."""

    def __init__(self, xp: Any, kernels: Any) -> None:
        self.xp, self.kernels = xp, kernels

    def forward(
        self, projected: Array, heads: int, random: Random | None, p: float, steps: PackedSteps
    ) -> tuple[Array, Attended]:
        """See :meth:`AttentionPasses.forward`."""
        xp, (_, _, batch, longest) = self.xp, steps.on_device
        x = xp.ascontiguousarray(projected)
        out = xp.empty((len(x), x.shape[1] // 3), dtype=x.dtype)
        weights = xp.empty((batch, heads, longest, longest), dtype=x.dtype)
        dropped = weights if random is None or not p else xp.empty_like(weights)
        found = Attended(x, weights, dropped, random, p)
        self._launch("attend", (), found, steps, (weights, dropped, out))
        return out, found

    def backward(self, d_out: Array, found: Attended, steps: PackedSteps) -> Array:
        """See :meth:`AttentionPasses.backward`."""
        xp, x = self.xp, found.projected
        d_x: Array = xp.empty_like(x)
        given = (xp.ascontiguousarray(d_out), x, found.weights, found.dropped)
        to = xp.empty_like(found.weights), d_x
        self._launch("attend_backward", given, found, steps, to)
        return d_x

    def _launch(
        self, name: str, given: tuple[Array, ...], found: Attended, steps: PackedSteps,
        to: tuple[Array, ...],
    ) -> None:  # fmt: skip
        x, (offsets, sizes, batch, longest) = found.projected, steps.on_device
        heads, real = found.weights.shape[1], x.dtype.type
        size = x.shape[1] // (3 * heads)
        self.kernels.get("attention.cu", name, real_option(x.dtype))((batch, heads), (THREADS,), (
            *(given or (x,)), offsets, sizes, np.int64(len(x)),
            *map(np.int32, (longest, heads, size)), real(size**-0.5),
            *Masks.numbers(found.random, found.p, x.dtype), *to,
        ))  # fmt: skip
