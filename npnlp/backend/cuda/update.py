"""The end of a step of training, on the device alone (``kernels/update.cu``).

Whether all numbers are finite is noted there, and from the first step on that has one that is not,
weights and moments stay as they are, until the host looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.cuda.kernel_source import real_option

#: Elements of a chunk: a block of so many threads goes through it.
CHUNK, THREADS = 2048, 256
#: What the host says of each step: Adam's rate and eps with their corrections, and what is left of
#: a weight that decays.
RATES = 3


class DeviceUpdate:
    """Clipping, Adam and the log, for parameters that are views into one buffer.

    ``buffers`` are the weights, their gradients and Adam's two moments, each flat; ``decayed``
    names the parameters whose weights decay. A step has a row of ``rates`` and of ``log (K, 4 +
    P)``, the one that ``counters[0]`` says; ``clip`` is the largest norm of the gradient, or None.
    """

    def __init__(
        self,
        backend: Any,
        buffers: tuple[Array, Array, Array, Array],
        parameters: Mapping[str, Array],
        decayed: set[str],
        log: Array,
        counters: Array,
        betas: tuple[float, float],
        clip: float | None,
    ) -> None:
        self.backend, self.buffers, self.log, self.counters = backend, buffers, log, counters
        chunks: list[tuple[int, int, int, int]] = []
        firsts, start = [0], 0
        for number, (name, parameter) in enumerate(parameters.items()):
            end = start + parameter.size
            for first in range(start, end, CHUNK):
                chunks.append((first, min(first + CHUNK, end), number, name in decayed))
            firsts.append(len(chunks))
            start = end
        self.chunks = backend.asarray(np.array(chunks, dtype=np.int64))
        self.firsts = backend.asarray(np.array(firsts, dtype=np.int32))
        self.partial = backend.zeros((2, len(chunks)), np.float64)
        self.squares = backend.zeros((len(parameters) + 1,), np.float64)
        self.decided = backend.zeros((5,), np.float64)
        self.rates = backend.zeros((len(log), RATES), np.float64)
        real = buffers[0].dtype.type
        self._betas, self._clip = [real(beta) for beta in betas], real(clip or 0)
        self._option = real_option(buffers[0].dtype)

    def launch(self, loss_sum: Array, weight_sum: Array | int, correct: Array) -> None:
        """The step ``counters`` says; three launches. Nothing is copied to the host.

        ``loss_sum`` and ``weight_sum`` are those of the batch, ``correct`` (int64) how many of its
        rows were answered rightly.
        """
        values, grads, first, second = self.buffers
        weights, rows = (weight_sum, 0.0) if hasattr(weight_sum, "dtype") else (
            np.uint64(0), float(weight_sum)
        )  # fmt: skip
        grid, block = (len(self.chunks),), (THREADS,)
        self._get("square_sums")(grid, block, (values, grads, self.chunks, self.partial))
        self._get("judge")((1,), block, (
            self.partial, self.firsts, np.int32(len(self.squares) - 1), self.squares,
            loss_sum, weights, np.float64(rows), correct, self.rates, self._clip,
            self.counters, self.decided, self.log,
        ))  # fmt: skip
        self._get("adam_chunks")(grid, block, (
            values, grads, first, second, self.chunks, self.decided, *self._betas,
        ))  # fmt: skip

    def _get(self, name: str) -> Any:
        return self.backend.kernels.get("update.cu", name, self._option)
