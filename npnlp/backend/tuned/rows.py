"""Adam on some rows of a table; see ``training/lazy.py``."""

from __future__ import annotations

import numpy as np

from npnlp.backend.operations import AdamNumbers, Array, Missed
from npnlp.backend.tuned.adam import adam_step


class TunedRows:
    """See :class:`RowAdam`: copies of the rows are moved, and written back."""

    def catch_up(self, table: tuple[Array, Array, Array], rows: Array, missed: Missed) -> None:
        """See :meth:`RowAdam.catch_up`."""
        w, m, v = (each.take(rows, axis=0) for each in table)
        kept, shift, eps, first, second = (each.astype(w.dtype)[:, None] for each in missed)
        w *= kept
        move = np.sqrt(v)
        move += eps
        np.divide(m, move, out=move)
        move *= shift
        w -= move
        m *= first
        v *= second
        _put(table, rows, (w, m, v))

    def step(
        self, table: tuple[Array, Array, Array], grads: Array, rows: Array, kept: float,
        numbers: AdamNumbers,
    ) -> None:  # fmt: skip
        """See :meth:`RowAdam.step`."""
        w, m, v = (each.take(rows, axis=0) for each in table)
        w *= kept
        adam_step(w, grads.take(rows, axis=0), (m, v), np.empty_like(w), numbers)
        _put(table, rows, (w, m, v))


def _put(table: tuple[Array, ...], rows: Array, moved: tuple[Array, ...]) -> None:
    for whole, part in zip(table, moved, strict=True):
        whole[rows] = part
