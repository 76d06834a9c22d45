"""The least time that a pass can take on a device, from three rates measured on it.

    floor = max(bytes / bandwidth, operations / rate) + steps * barrier

Bytes are those that have to cross the device's memory once: weights, the projected input and the
states; operations are two for each multiplication in float32; a step cannot begin before all
threads of its block are done with the one before, so each costs a barrier at least. The training
step's floor is that of forward and backward: its other parts are left out, so it stays a floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from passes.gpu_case import EMBEDDING, VOCABULARY, Case, Clock

GATES = {"elman": 1, "gru": 3, "lstm": 4}
ROUNDS, STEPS = 10, 20_000
BARRIERS = r"""
extern "C" __global__ void barriers(float* out, int steps) {
    __shared__ float shared[256];
    float sum = threadIdx.x;
    for (int t = 0; t < steps; ++t) {
        shared[threadIdx.x] = sum;
        __syncthreads();
        sum += shared[(threadIdx.x + 1) % 256];
        __syncthreads();
    }
    out[threadIdx.x] = sum;
}
"""


@dataclass(frozen=True)
class Rates:
    """Bytes and operations a second, and seconds of a barrier; all measured."""

    bandwidth: float
    operations: float
    barrier: float


def measured_rates(cupy: Any, clock: Clock) -> Rates:
    """A copy of 256 MiB, a product of 4096 x 4096 in float32, and many barriers of 256 threads."""
    source = cupy.zeros(2**26, dtype=np.float32)
    target = cupy.empty_like(source)
    square = cupy.ones((4096, 4096), dtype=np.float32)
    product = cupy.empty_like(square)
    out = cupy.empty(256, dtype=np.float32)
    kernel = cupy.RawModule(code=BARRIERS).get_function("barriers")

    def seconds(call: Any) -> float:
        return 1e-3 * min(clock(call) for _ in range(ROUNDS))

    def wait(steps: int) -> float:
        return seconds(lambda: kernel((1,), (256,), (out, np.int32(steps))))

    copying = seconds(lambda: cupy.copyto(target, source))
    multiplying = seconds(lambda: cupy.dot(square, square, out=product))
    # The difference of two runs, so that the launch is not counted; two barriers a step.
    barrier = (wait(2 * STEPS) - wait(STEPS)) / (2 * STEPS)
    return Rates(2 * source.nbytes / copying, 2 * 4096.0**3 / multiplying, barrier)


def floor_ms(case: Case, seed: int, name: str, rates: Rates) -> float:
    """Milliseconds that the pass ``name`` takes at least."""
    gates, hidden = GATES[case.cell], case.hidden
    rows = int(case.split(seed).lengths.sum())
    weights = gates * hidden * (hidden + EMBEDDING + 2)
    table = VOCABULARY * gates * hidden
    forward_operations = 2.0 * gates * hidden * (rows * hidden + VOCABULARY * EMBEDDING)
    forward_bytes = 4.0 * (weights + table + rows * hidden) + 8 * rows  # states out, tokens in
    if name == "forward":
        operations, moved, steps = forward_operations, forward_bytes, case.steps
    else:  # backward: the products towards the states and towards the weights
        operations = 3 * forward_operations
        moved = 2 * forward_bytes + 4.0 * weights
        steps = 2 * case.steps
    seconds = max(moved / rates.bandwidth, operations / rates.operations)
    return 1e3 * (seconds + steps * rates.barrier)
