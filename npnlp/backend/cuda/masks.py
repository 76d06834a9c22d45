"""Dropout on the device, with the bits of the CPU (``kernels/philox.cu``)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from npnlp.backend.cuda.kernel_source import NULL, grid_of, real_option
from npnlp.backend.operations import Array
from npnlp.backend.random import Random, keep_threshold


class Masks:
    """Masks of whole batches; ``random.step`` may be an array of one uint64 on the device."""

    def __init__(self, xp: Any, kernels: Any) -> None:
        self.xp, self.kernels = xp, kernels

    def keep(self, random: Random, shape: tuple[int, ...], p: float) -> Array:
        """See :meth:`Backend.keep_mask`."""
        keep = self.xp.empty(shape, dtype=bool)
        self._launch("keep_mask", (), (keep,), math.prod(shape), random, p)
        return keep  # type: ignore[no-any-return]

    def dropout(self, x: Array, random: Random, p: float) -> tuple[Array, Array]:
        """See :meth:`Backend.dropout`; one launch."""
        x = self.xp.ascontiguousarray(x)
        y, scale, value = self.xp.empty_like(x), self.xp.empty_like(x), _value(x.dtype, p)
        self._launch("dropout", (real_option(x.dtype),), (x, y, scale, value), x.size, random, p)
        return y, scale

    def scale(self, shape: tuple[int, ...], dtype: Any, random: Random, p: float) -> Array:
        """The second result of :meth:`dropout` of an array of this shape."""
        scale, value = self.xp.empty(shape, dtype=dtype), _value(dtype, p)
        options, arrays = (real_option(dtype),), (NULL, NULL, scale, value)
        self._launch("dropout", options, arrays, math.prod(shape), random, p)
        return scale  # type: ignore[no-any-return]

    @staticmethod
    def numbers(random: Random | None, p: float, dtype: Any) -> tuple[Any, ...]:
        """What a kernel needs that draws a mask itself; the scale is 0 where nothing is dropped."""
        if random is None or not p:
            nothing = np.uint64(0)
            return np.dtype(dtype).type(0), nothing, nothing, nothing, NULL, np.uint32(0)
        return _value(dtype, p), *_drawn(random, p)

    def _launch(
        self, name: str, options: tuple[str, ...], first: tuple[Any, ...], count: int,
        random: Random, p: float,
    ) -> None:  # fmt: skip
        if not count:
            return
        numbers = np.int64(count), *_drawn(random, p)
        kernel = self.kernels.get("philox.cu", name, *options)
        kernel(*grid_of((count + 15) // 16), (*first, *numbers))


def _drawn(random: Random, p: float) -> tuple[Any, ...]:
    """The key, the step, or where it stands on the device, and the threshold."""
    step, clock = np.uint64(0), NULL
    if isinstance(random.step, int):
        step = np.uint64(random.step & (2**64 - 1))
    else:
        clock = random.step
    return *random.key, step, clock, np.uint32(keep_threshold(p))


def _value(dtype: Any, p: float) -> Any:
    return np.dtype(dtype).type(1.0 / (1.0 - p))
