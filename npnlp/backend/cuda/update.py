"""The end of a training step, computed on the device (``kernels/update.cu``).

From the first step with a number that is not finite, weights and moments are not changed any more,
until the host looks at the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.cuda.kernel_source import NULL, real_option

#: Elements of a chunk, and threads of the block that computes it.
CHUNK, THREADS = 2048, 256
#: Numbers from the host for each step: the rate and eps (Adam's, with its corrections), and the
#: factor of decay.
RATES = 3


class Rule(NamedTuple):
    """How weights follow their gradients: ``adam`` or ``sgd``.

    ``moments`` are the optimizer's flat buffers (first and second; or velocity, None without
    momentum), ``factors`` what they decay by (both betas; or the momentum).
    """

    name: str
    moments: tuple[Array | None, ...]
    factors: tuple[float, ...]


class DeviceUpdate:
    """Clipping, a step of the optimizer and the log, for parameters that are views into one buffer.

    ``buffers`` are the weights and their gradients, each flat; ``decayed`` names the parameters
    with weight decay. A step uses row ``counters[0]`` of ``rates`` and of ``log (K, 4 + P)``;
    ``clip`` is the largest norm of the gradient, or None.
    """

    def __init__(
        self,
        backend: Any,
        buffers: tuple[Array, Array],
        parameters: Mapping[str, Array],
        rule: Rule,
        decayed: set[str],
        log: Array,
        counters: Array,
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
        self._kernel, self._clip = f"{rule.name}_chunks", real(clip or 0)
        self._moments = [NULL if moment is None else moment for moment in rule.moments]
        self._factors = [real(factor) for factor in rule.factors]
        self._option = real_option(buffers[0].dtype)

    def launch(self, loss_sum: Array, weight_sum: Array | int, correct: Array) -> None:
        """One step, in three launches. Nothing is copied to the host.

        ``loss_sum``, ``weight_sum`` and ``correct`` (int64), the number of correct rows, are those
        of the batch.
        """
        values, grads = self.buffers
        weights, rows = (weight_sum, 0.0) if hasattr(weight_sum, "dtype") else (
            NULL, float(weight_sum)
        )  # fmt: skip
        grid, block = (len(self.chunks),), (THREADS,)
        self._get("square_sums")(grid, block, (values, grads, self.chunks, self.partial))
        self._get("judge")((1,), block, (
            self.partial, self.firsts, np.int32(len(self.squares) - 1), self.squares,
            loss_sum, weights, np.float64(rows), correct, self.rates, self._clip,
            self.counters, self.decided, self.log,
        ))  # fmt: skip
        self._get(self._kernel)(grid, block, (
            values, grads, *self._moments, self.chunks, self.decided, *self._factors,
        ))  # fmt: skip

    def _get(self, name: str) -> Any:
        return self.backend.kernels.get("update.cu", name, self._option)
