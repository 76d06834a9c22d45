"""What this machine can do: products at given shapes, tanh, and moving memory; the best ever seen.

A rate is the best of many short measurements, since whatever else runs can only make it slower.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passes.step_work import Operation, Product, Sweep, Tanh

#: A measurement takes about so many seconds: short calls are repeated in it, after one that brings
#: their operands into the cache.
SECONDS = 2e-4
#: Columns of the right matrix taken at once. Small products may go faster than one large one: then
#: BLAS does not copy the matrix into an order of its own each time.
BLOCKS = (32, 64)
#: Numbers that stay in the first cache.
TANH_BLOCK = 4096
#: Bytes moved by a copy, half of them read: from a core's cache to main memory.
COPIES: tuple[int, ...] = tuple(2**power for power in range(15, 30, 2))

Call = Callable[[], Any]


def best_seconds(call: Call, best: float = float("inf")) -> float:
    """The mean of some calls, or ``best`` where that is less."""
    started = time.perf_counter()
    call()
    once = time.perf_counter() - started
    if once > SECONDS:
        return min(once, best)
    times = int(SECONDS / max(once, 1e-7)) + 1
    started = time.perf_counter()
    for _ in range(times):
        call()
    return min((time.perf_counter() - started) / times, best)


class Rates:
    """Seconds of each product, of a tanh, and of moving bytes; :meth:`measure` may improve them.

    ``products`` are those that occur.
    """

    def __init__(self, products: Iterable[Product], seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        self._products = {product: self._calls(product) for product in products}
        numbers = self._numbers(TANH_BLOCK)
        self._tanh: Call = lambda: np.tanh(numbers, out=numbers)
        self._copies = {moved: self._copy(moved) for moved in COPIES}
        self.product = dict.fromkeys(self._products, float("inf"))
        self.tanh = float("inf")
        self.copy = dict.fromkeys(COPIES, float("inf"))

    def measure(self) -> None:
        """A measurement of everything."""
        for product, calls in self._products.items():
            for call in calls:
                self.product[product] = best_seconds(call, self.product[product])
        self.tanh = min(self.tanh, best_seconds(self._tanh) / TANH_BLOCK)
        for moved, call in self._copies.items():
            self.copy[moved] = best_seconds(call, self.copy[moved])

    def seconds(self, operation: Operation) -> float:
        """How long an operation takes at these rates."""
        if isinstance(operation, Product):
            return self.product[operation]
        if isinstance(operation, Tanh):
            return self.tanh * operation.evaluations
        held = max(operation.held or operation.moved, 1)
        nearest: int = min(COPIES, key=lambda moved: abs(math.log(moved / held)))
        return operation.moved / nearest * self.copy[nearest]

    def floor(self, operations: Iterable[Operation]) -> dict[str, float]:
        """Seconds by part: products, tanh, elementwise, gather, optimizer."""
        parts = dict.fromkeys(("products", "tanh", "elementwise", "gather", "optimizer"), 0.0)
        for operation in operations:
            parts[part_of(operation)] += self.seconds(operation)
        return parts

    def _numbers(self, *shape: int) -> NDArray[Any]:
        return self._draw.standard_normal(shape, dtype=np.float32)

    def _calls(self, product: Product) -> list[Call]:
        """The ways to compute a product: at once, and some columns at a time."""
        m, k, n = product.m, product.k, product.n
        left, right, out = self._numbers(m, k), self._numbers(k, n), self._numbers(m, n)
        calls: list[Call] = [lambda: np.dot(left, right, out)]
        for columns in BLOCKS:
            if n % columns == 0 and n > columns:
                blocks = np.ascontiguousarray(right.reshape(k, -1, columns).swapaxes(0, 1))
                result = self._numbers(n // columns, m, columns)
                calls.append(lambda b=blocks, r=result: np.matmul(left, b, out=r))  # type: ignore[misc]
        return calls

    def _copy(self, moved: int) -> Call:
        source = np.zeros(moved // 8, dtype=np.float32)
        target = np.empty_like(source)
        target[...] = 1
        return lambda: np.copyto(target, source)


def part_of(operation: Operation) -> str:
    """The part of the step that an operation belongs to."""
    if isinstance(operation, Sweep):
        return operation.part
    return "products" if isinstance(operation, Product) else "tanh"
