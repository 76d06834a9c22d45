"""Poolings over the steps of packed sequences in kernels (``kernels/pooling.cu``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from npnlp.backend.cuda.head import SOFTMAX_THREADS
from npnlp.backend.cuda.kernel_source import grid_of, real_option
from npnlp.backend.operations import Array, PackedSteps


class KernelPooling:
    """The launches, those of :class:`StepSoftmax` too."""

    def __init__(self, xp: Any, kernels: Any) -> None:
        self.xp, self.kernels = xp, kernels

    def first_largest(self, x: Array, steps: PackedSteps) -> Array:
        """See :meth:`Backend.first_largest`."""
        (offsets, sizes, batch, longest), features = steps.on_device, x.shape[1]
        rows: Array = self.xp.empty((batch, features), dtype=np.int64)
        counts = map(np.int32, (batch, longest, features))
        arguments = (self.xp.ascontiguousarray(x), offsets, sizes, *counts, rows)
        self._get("first_largest", x)(*grid_of(rows.size), arguments)
        return rows

    def forward(self, e: Array, steps: PackedSteps) -> Array:
        """See :meth:`StepSoftmax.forward`."""
        return self._launch("softmax_of_steps", (e,), steps)

    def backward(self, d_alpha: Array, alpha: Array, steps: PackedSteps) -> Array:
        """See :meth:`StepSoftmax.backward`."""
        return self._launch("softmax_of_steps_backward", (d_alpha, alpha), steps)

    def _launch(self, name: str, given: tuple[Array, ...], steps: PackedSteps) -> Array:
        offsets, sizes, batch, longest = steps.on_device
        out: Array = self.xp.empty_like(given[0])
        arrays = (*map(self.xp.ascontiguousarray, given), offsets, sizes)
        arguments = (*arrays, np.int32(longest), np.int32(len(out)), out)
        self._get(name, out)((batch,), (SOFTMAX_THREADS,), arguments)
        return out

    def _get(self, name: str, like: Array) -> Any:
        return self.kernels.get("pooling.cu", name, real_option(like.dtype))
