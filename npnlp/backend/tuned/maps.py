"""Affine maps of many rows, and their gradients."""

from __future__ import annotations

from typing import Any

from npnlp.backend.operations import Array
from npnlp.backend.tuned import blocks


class AffineMaps:
    """``x W^T + b`` in the array calls of ``xp``; see also :class:`LinearPasses`.

    ``small`` is :attr:`Backend.small_product`.
    """

    def __init__(self, xp: Any, small: int) -> None:
        self.xp, self.small = xp, small

    def affine(self, x: Array, weight: Array, bias: Array, groups: int) -> Array:
        """``x W^T + b`` by groups of rows of W: ``(groups, N, n / groups)``; ``(N, n)`` for one."""
        y: Array
        if groups == 1:
            y = self.xp.dot(x, weight.T)
            y += bias
        else:
            y = self.xp.matmul(x, weight.reshape(groups, -1, weight.shape[1]).swapaxes(1, 2))
            y += bias.reshape(groups, 1, -1)
        return y

    def affine_backward(
        self, dy: Array, x: Array, weight: Array, d_weight: Array, d_bias: Array
    ) -> Array:
        """``dL/dx = dy W``; ``dL/dW = dy^T x`` and ``dL/db = sum_n dy_n`` are added."""
        # A product with ones is a sum over rows, at the speed of BLAS.
        dot = self.xp.dot
        d_bias += dot(self.xp.ones(len(dy), dtype=dy.dtype), dy)
        d_weight += dot(dy.T, x)
        dx: Array = dot(dy, weight)
        return dx

    def add_outer(self, out: Array, left: Array, right: Array, rows: Array | None) -> None:
        """``out += sum_n left_n^T right_{rows_n}``: the gradient of the weights of a product.

        Shapes: ``out (m, n)``, ``left (N, m)``, ``right (., n)``, ``rows (N,)``, or None for all
        rows of ``right`` in their order.
        """
        # dot would copy columns of a larger array first.
        product = self.xp.dot if left.flags.c_contiguous else self.xp.matmul
        if rows is None:
            out += product(left.T, right)
            return
        for start in range(0, len(left), blocks.BLOCK):
            some = slice(start, start + blocks.BLOCK)
            out += product(left[some].T, right.take(rows[some], axis=0))
