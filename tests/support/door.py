"""What a backend's door offers, or the reference where it offers nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from npnlp.backend import Array, Backend
from npnlp.backend.numpy_backend import NumpyBackend
from npnlp.backend.operations import (
    AdamNumbers,
    CrossEntropyPasses,
    RecurrentPasses,
)  # fmt: skip
from npnlp.backend.tuned.cell import TunedCell
from npnlp.backend.tuned.loop import TunedPasses
from npnlp.backend.tuned.maps import AffineMaps
from npnlp.layers.loss import RowLosses
from npnlp.layers.recurrent.recurrent import Recurrent
from tests.support.strict import StrictBackend


def cross_entropy(backend: Backend, logits: Array) -> CrossEntropyPasses:
    return backend.cross_entropy_passes(logits.dtype) or RowLosses(backend.xp)


def adam_step(
    backend: Backend, values: Array, grads: Array, moments: tuple[Array, Array],
    numbers: AdamNumbers,
) -> None:  # fmt: skip
    step = backend.adam_step(values.dtype)
    assert step is not None
    step(values, grads, moments, backend.zeros(values.shape, values.dtype), numbers)


class StrictTunedBackend(StrictBackend):
    """The stand-in for a device, with the tuned loop: what a device's kernels stand inside of."""

    def recurrent_passes(self, kind: str, hidden_size: int, dtype: Any) -> RecurrentPasses | None:
        if not kind:
            return None
        maps = AffineMaps(self.xp, self.small_product)
        return TunedPasses(kind, hidden_size, maps, self.segment_sum)


class WithCell(NumpyBackend):
    """NumPy with another cell in its tuned loop, and other passes if one likes."""

    def __init__(self, cell: type[TunedCell], passes: type[TunedPasses] = TunedPasses) -> None:
        super().__init__()
        self.cell, self.passes = cell, passes

    def recurrent_passes(self, kind: str, hidden_size: int, dtype: Any) -> RecurrentPasses | None:
        maps = AffineMaps(self.xp, self.small_product)
        passes = self.passes(kind, hidden_size, maps, self.segment_sum)
        passes.cell = self.cell(hidden_size, self.xp)
        return passes


def is_compiled(layer: Recurrent, dtype: Any = None) -> bool:
    """Whether Numba has loops of its own for a layer."""
    from npnlp.backend.compiled.loops.recurrence import CompiledPasses  # where Numba is installed

    dtype = np.dtype(dtype or layer.dtype)
    found = layer.backend.recurrent_passes(layer.kind(), layer.hidden_size, dtype)
    return isinstance(found, CompiledPasses)


def maps(backend: Backend) -> AffineMaps:
    """The affine maps of the recurrent passes of a backend."""
    passes: Any = backend.recurrent_passes("gru", 4, np.dtype("float32"))
    assert isinstance(passes.maps, AffineMaps)
    return passes.maps
