"""Adam on some rows of a table, in place; see ``training/lazy.py``."""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.vectors.kernel import inner, kernel
from npnlp.backend.operations import AdamNumbers, Missed


class CompiledRows:
    """See :class:`RowAdam`."""

    def catch_up(self, table: tuple[Array, Array, Array], rows: Array, missed: Missed) -> None:
        """See :meth:`RowAdam.catch_up`."""
        _catch_up(*table, rows, *(each.astype(table[0].dtype) for each in missed))

    def step(
        self, table: tuple[Array, Array, Array], grads: Array, rows: Array, kept: float,
        numbers: AdamNumbers,
    ) -> None:  # fmt: skip
        """See :meth:`RowAdam.step`."""
        _step(*table, grads, rows, kept, *numbers)


@inner
def _require(rows: Array, w: Array) -> None:
    for r in rows:
        if not 0 <= r < len(w):
            raise IndexError("a row is out of range")


@kernel
def _catch_up(
    w: Array, m: Array, v: Array, rows: Array, kept: Array, shift: Array, eps: Array, first: Array,
    second: Array,
) -> None:  # fmt: skip
    _require(rows, w)
    for n in range(len(rows)):
        r, d, s, e, b1, b2 = rows[n], kept[n], shift[n], eps[n], first[n], second[n]
        for j in range(np.uint64(w.shape[1])):
            w[r, j] = d * w[r, j] - s * (m[r, j] / (np.sqrt(v[r, j]) + e))
            m[r, j] *= b1
            v[r, j] *= b2


@kernel
def _step(
    w: Array, m: Array, v: Array, grads: Array, rows: Array, kept: float, b1: float, b2: float,
    rate: float, eps: float,
) -> None:  # fmt: skip
    _require(rows, w)
    real = w.dtype.type
    d, b1_, b2_, rate_, eps_ = real(kept), real(b1), real(b2), real(rate), real(eps)
    for r in rows:
        for j in range(np.uint64(w.shape[1])):
            g = grads[r, j]
            m[r, j] = m[r, j] * b1_ + g
            v[r, j] = v[r, j] * b2_ + g * g
            w[r, j] = d * w[r, j] - rate_ * (m[r, j] / (np.sqrt(v[r, j]) + eps_))
