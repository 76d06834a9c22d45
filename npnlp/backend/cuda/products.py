"""CuPy's namespace, with functions that can be captured in a CUDA graph.

CuPy refuses calls of cuBLAS while a stream is captured, so ``dot`` and ``matmul`` then use
``kernels/product.cu``. Otherwise they are CuPy's: cuBLAS is faster for large products. It also
refuses copies from the host, which joining more than ``JOINED`` arrays makes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import numpy as np

from npnlp.backend.cuda.kernel_source import BLOCK, REALS, real_option

#: The sides of a tile, and the side of a block of threads.
SMALL, LARGE, SIDE = 32, 64, 16
#: Blocks that occupy a device, two for each multiprocessor of an H100. With fewer, tiles are small
#: and products are cut along their depth, into parts of at least ``SHORTEST``. Not yet measured.
ENOUGH, SHORTEST = 264, 256
#: The depth of a part is a multiple of this, which is a multiple of what a block loads at a time.
DEPTH = 32
#: CuPy joins more arrays than these by a table of their addresses, which it makes on the host
#: (``_concatenate`` in ``cupy/_core/_routines_manipulation.pyx``); up to these, one by one.
JOINED = 8


class Cut(NamedTuple):
    """How a product is cut: the side of a tile, how many parts, and the depth of a part."""

    tile: int
    parts: int
    part: int


def cut(rows: int, columns: int, depth: int, batches: int) -> Cut:
    """Depends on the shapes only, because it decides the order of summation."""

    def tiles(side: int) -> int:
        return -(-rows // side) * -(-columns // side) * batches

    tile = LARGE if tiles(LARGE) >= ENOUGH else SMALL
    parts = max(1, min(-(-depth // SHORTEST), ENOUGH // tiles(tile)))
    part = -(-depth // (parts * DEPTH)) * DEPTH
    return Cut(tile, -(-depth // part), part)


class Namespace:
    """The ``cupy`` module; within :meth:`graph_work`, with what can be captured in its place."""

    def __init__(self, cupy: Any, kernels: Any) -> None:
        self._cupy, self._kernels = cupy, kernels
        self._in_graph = self._own = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cupy, name)
        setattr(self, name, found)  # so that it is looked up once
        return found

    @property
    def capturable(self) -> bool:
        """Whether this is inside of :meth:`graph_work`: then no number is read on the host."""
        return self._in_graph

    @property
    def fuses(self) -> bool:
        """Whether products are this project's: then they do what is behind them, too."""
        return self._own

    @contextmanager
    def graph_work(self, own_products: bool = True) -> Iterator[None]:
        """Work of a graph inside; without ``own_products`` it cannot be captured."""
        before = self._in_graph, self._own
        self._in_graph, self._own = True, own_products
        try:
            yield
        finally:
            self._in_graph, self._own = before

    def own_products(self) -> AbstractContextManager[None]:
        """No call of cuBLAS inside."""
        return self.graph_work()

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        """``cupy.stack``."""
        if not self._own or len(arrays) <= JOINED:
            return self._cupy.stack(arrays, axis)
        return self.concatenate([self._cupy.expand_dims(x, axis) for x in arrays], axis)

    def concatenate(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        """``cupy.concatenate``."""
        if self._own:
            while len(arrays) > JOINED:
                parts = range(0, len(arrays), JOINED)
                arrays = [self._cupy.concatenate(arrays[i : i + JOINED], axis) for i in parts]
        return self._cupy.concatenate(arrays, axis)

    def dot(self, a: Any, b: Any, out: Any = None) -> Any:
        """``cupy.dot`` for up to two axes each."""
        if not self._own or a.ndim > 2 or b.ndim > 2 or not _suitable(a, b):
            return self._cupy.dot(a, b, out)
        left = a if a.ndim == 2 else a[None]
        right = b if b.ndim == 2 else b[:, None]
        shape = (*a.shape[:-1], *b.shape[1:])
        found = self._cupy.empty(shape, dtype=a.dtype) if out is None else out
        whole = slice(None)
        axes = (None, whole if a.ndim == 2 else None, whole if b.ndim == 2 else None)
        self._multiply(left[None], right[None], found[axes])
        return found

    def matmul(self, a: Any, b: Any, out: Any = None) -> Any:
        """``cupy.matmul`` for two or three axes each, the first of three a batch."""
        if not self._own or not {a.ndim, b.ndim} <= {2, 3} or not _suitable(a, b):
            return self._cupy.matmul(a, b, out=out)
        left, right = (x if x.ndim == 3 else x[None] for x in (a, b))
        batches = max(len(left), len(right))
        shape = (batches, left.shape[1], right.shape[2])[0 if 3 in (a.ndim, b.ndim) else 1 :]
        found = self._cupy.empty(shape, dtype=a.dtype) if out is None else out
        whole = found if found.ndim == 3 else found[None]
        self._multiply(left, right, whole)
        return found

    def _multiply(self, a: Any, b: Any, out: Any) -> None:
        """Fill ``out (P, M, N)`` from ``a (P or 1, M, K)`` and ``b (P or 1, K, N)``."""
        batches, rows, columns = out.shape
        depth, item = a.shape[2], out.itemsize
        if a.shape[2] != b.shape[1] or a.shape[1] != rows or b.shape[2] != columns:
            raise ValueError(f"product of {a.shape} and {b.shape} into {out.shape}")
        if not out.size:
            return
        if not depth:
            out[...] = 0
            return
        if columns > 1 and out.strides[2] != item:
            raise ValueError("a product has to write to an array whose rows are not contiguous")
        how = cut(rows, columns, depth, batches)
        options = real_option(out.dtype), f"-DTILE={how.tile}"
        steps = _steps(a, item), _steps(b, item)
        to = [np.int64(out.strides[0] // item), np.int64(out.strides[1] // item)]
        target, place = out, [np.int64(0), *to]
        if how.parts > 1:
            target = self._cupy.empty((how.parts, *out.shape), dtype=out.dtype)
            place = [np.int64(math.prod(target.shape[axis:])) for axis in (1, 2, 3)]
        kernel = self._kernels.get("product.cu", "product", *options)
        grid = (-(-columns // how.tile), -(-rows // how.tile), batches * how.parts)
        sizes = [np.int32(size) for size in (rows, columns, depth, how.part, batches)]
        kernel(grid, (SIDE, SIDE), (a, *steps[0], b, *steps[1], target, *place, *sizes))
        if how.parts > 1:
            gather = self._kernels.get("product.cu", "sum_of_parts", *options)
            counts = [np.int64(out.size), *map(np.int32, (how.parts, rows, columns))]
            gather((-(-out.size // BLOCK),), (BLOCK,), (target, *counts, out, *to))


def _suitable(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.dtype.name in REALS


def _steps(x: Any, item: int) -> list[Any]:
    """Strides between matrices, rows and columns, in elements; one matrix serves every batch."""
    of_batch = x.strides[0] // item if x.shape[0] > 1 else 0
    return [np.int64(step) for step in (of_batch, x.strides[1] // item, x.strides[2] // item)]
