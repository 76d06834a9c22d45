"""Affine maps by compiled matrix products, which threads share."""

from __future__ import annotations

import numpy as np

from npnlp.backend.compiled import linear, products
from npnlp.backend.compiled.dtypes import are_contiguous_reals, are_reals, plain
from npnlp.backend.compiled.threads.sharing import share
from npnlp.backend.operations import Array
from npnlp.backend.tuned.maps import AffineMaps

NO_ROWS = np.empty(0, dtype=np.intp)


class CompiledMaps(AffineMaps):
    """As :class:`AffineMaps`, and the passes of a linear layer.

    Small maps use BLAS, which does not pack their matrices.
    """

    def forward(self, x: Array, weight: Array, bias: Array) -> Array:
        """See :class:`LinearPasses`."""
        return self.affine(plain(x), weight, bias, 1)

    def backward(self, dy: Array, x: Array, weight: Array, d_weight: Array, d_bias: Array) -> Array:
        """See :class:`LinearPasses`."""
        return self.affine_backward(plain(dy), plain(x), weight, d_weight, d_bias)

    def affine(self, x: Array, weight: Array, bias: Array, groups: int) -> Array:
        """See :meth:`AffineMaps.affine`."""
        if groups == 1 and self._is_small(x, weight) and are_contiguous_reals(x, weight, bias):
            y = np.empty((len(x), len(weight)), dtype=x.dtype)
            linear.affine(x, weight, bias, y)
            return y
        if not are_reals(x, weight, bias):
            return super().affine(x, weight, bias, groups)
        x = plain(x)
        out = np.empty((groups, len(x), len(weight) // groups), dtype=x.dtype)
        work = products.affine if groups == 1 else products.affine_of_gates
        share(work, (x, weight.T, bias.reshape(groups, -1), out), out.shape[2],
              groups * x.size)  # fmt: skip
        return out if groups > 1 else out[0]

    def affine_backward(
        self, dy: Array, x: Array, weight: Array, d_weight: Array, d_bias: Array
    ) -> Array:
        """See :meth:`AffineMaps.affine_backward`."""
        arrays = dy, x, weight, d_weight, d_bias
        if self._is_small(x, weight) and are_contiguous_reals(*arrays):
            dx = np.empty_like(x)
            linear.affine_backward(*arrays, dx)
            return dx
        if not are_reals(*arrays) or not d_weight.flags.c_contiguous:
            return super().affine_backward(*arrays)
        dx = np.empty((len(dy), weight.shape[1]), dtype=dy.dtype)
        arrays = dy, plain(x), weight, d_weight, d_bias
        share(products.affine_backward, (*arrays, dx), weight.shape[1], 2 * dy.size)
        return dx

    def add_outer(self, out: Array, left: Array, right: Array, rows: Array | None) -> None:
        """See :meth:`AffineMaps.add_outer`."""
        if not are_reals(out, left, right) or not out.flags.c_contiguous:
            super().add_outer(out, left, right, rows)
            return
        if len(left):
            arrays = left, plain(right), NO_ROWS if rows is None else rows, out
            share(products.add_outer, arrays, len(out), len(left) * right.shape[1])

    def _is_small(self, x: Array, weight: Array) -> bool:
        return x.size * len(weight) <= self.small
