"""Affine maps for captured steps: product, bias, dropout and ReLU in one launch (``affine.cu``).

CuPy refuses cuBLAS in a capture, and there every launch is a node of the graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npnlp.backend.cuda.kernel_source import NULL, grid_of, real_option
from npnlp.backend.cuda.products import SIDE, Cut, cut
from npnlp.backend.operations import Array


class Affine:
    """The launches, those of :class:`LinearPasses` too; ``kernels`` are a :class:`Kernels`."""

    def __init__(self, xp: Any, kernels: Any) -> None:
        self.xp, self.kernels = xp, kernels

    def forward(self, x: Array, weight: Array, bias: Array) -> Array:
        """See :meth:`LinearPasses.forward`."""
        return self.product(x, weight.T, bias)

    def backward(self, dy: Array, x: Array, weight: Array, d_weight: Array, d_bias: Array) -> Array:
        """See :meth:`LinearPasses.backward`."""
        self.add_gradients(dy, x, d_weight, d_bias)
        return self.product(dy, weight)

    def product(
        self, a: Array, b: Array, bias: Array | None = None, factor: Array | None = None, *,
        relu: bool = False,
    ) -> Array:  # fmt: skip
        """``(a b + bias) factor``, with ``bias (N,)`` and a contiguous ``factor (M, N)``.

        With ``relu`` it is ``max(a b + bias, 0) factor``, and ``factor`` becomes zero where that of
        the ReLU is: what its backward pass multiplies with.
        """
        (rows, depth), columns = a.shape, b.shape[1]
        out = self.xp.empty((rows, columns), dtype=a.dtype)
        behind = (
            NULL if bias is None else self.xp.ascontiguousarray(bias),
            NULL if factor is None else factor, np.int32(relu),
        )  # fmt: skip
        how = cut(rows, columns, depth, 1)
        several = how.parts > 1
        to = self.xp.empty((how.parts, *out.shape), dtype=out.dtype) if several else out
        sizes = [np.int32(size) for size in (rows, columns, depth, how.part)]
        arguments = (a, *_steps(a), b, *_steps(b), *behind, to, *sizes)
        self._get("affine", how, out)(_grid(how, rows, columns), (SIDE, SIDE), arguments)
        if several:
            counts = np.int64(out.size), np.int32(columns)
            self._get("affine_of_parts", how, out)(
                *grid_of(out.size), (to, np.int32(how.parts), *behind, out, *counts)
            )
        return out  # type: ignore[no-any-return]

    def add_gradients(
        self, dy: Array, x: Array, d_weight: Array, d_bias: Array,
        places: Array | None = None, first: Array | None = None,
    ) -> None:  # fmt: skip
        """``d_weight += dy^T x`` and ``d_bias += sum_k dy_k``.

        With ``places``, the last rows of ``dy`` belong to the rows ``places`` of ``x``, and those
        before to the rows of ``first``, or to zeros.
        """
        (depth, rows), columns = dy.shape, x.shape[1]
        how = cut(rows, columns, depth, 1)
        partial: Any = NULL
        if how.parts > 1:
            partial = self.xp.empty((how.parts, rows, columns + 1), dtype=dy.dtype)
        chosen = (
            NULL if places is None else places,
            NULL if first is None else self.xp.ascontiguousarray(first),
            np.int32(0 if places is None else depth - len(places)),
        )
        to = d_weight, np.int64(d_weight.strides[0] // d_weight.itemsize), d_bias
        sizes = [np.int32(size) for size in (rows, columns, depth, how.part)]
        self._get("weight_gradient", how, dy)(
            _grid(how, rows, columns), (SIDE, SIDE),
            (dy, *_steps(dy), x, *_steps(x), *chosen, *to, partial, *sizes),
        )  # fmt: skip
        if how.parts > 1:
            count = rows * (columns + 1)
            self._get("gradient_of_parts", how, dy)(
                *grid_of(count),
                (partial, np.int32(how.parts), *to, np.int64(count), np.int32(columns)),
            )

    def _get(self, name: str, how: Cut, like: Array) -> Any:
        return self.kernels.get("affine.cu", name, real_option(like.dtype), f"-DTILE={how.tile}")


def _grid(how: Cut, rows: int, columns: int) -> tuple[int, int, int]:
    return -(-columns // how.tile), -(-rows // how.tile), how.parts


def _steps(x: Array) -> list[Any]:
    """Strides between rows and columns, in elements."""
    return [np.int64(step // x.itemsize) for step in x.strides]
