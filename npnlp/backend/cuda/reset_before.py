"""The loop over time of a GRU with its reset before the product (``gru_reset_before.cu``).

Two launches a step each way. The interface is that of :mod:`npnlp.backend.cuda.recurrence`, the
arrays are those of :class:`npnlp.backend.tuned.gru.GRUResetBefore`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.cuda.kernel_source import NULL, real_option
from npnlp.backend.cuda.products import SIDE, SMALL

KIND, FILE = "gru_reset_before", "gru_reset_before.cu"
#: The launches of a step.
FORWARD, BACKWARD = ("reset_gates", "new_state"), ("undo_new_state", "undo_reset")


def forward(
    xp: Any, kernels: Any, memory: tuple[Array, ...], w_hh: Array,
    initial: tuple[Array, ...] | None, offsets: Array, sizes: Array, batch: int, steps: int,
) -> None:  # fmt: skip
    """Fill ``memory``: gates, of which ``u`` is there, ``m`` and the hidden states."""
    gates, reset, hidden = memory
    size, rows = hidden.shape[1], np.int64(len(hidden))
    given = (w_hh, _first(xp, initial), offsets, sizes, np.int32(size), np.int32(steps))
    first, second = (kernels.get(FILE, name, real_option(w_hh.dtype)) for name in FORWARD)
    for t in range(steps):
        arguments = (gates, reset, hidden, rows, *given, np.int32(t))
        first(_grid(2 * size, batch), (SIDE, SIDE), arguments)
        second(_grid(size, batch), (SIDE, SIDE), arguments)


def backward(
    xp: Any, kernels: Any, memory: tuple[Array, ...], w_hh: Array, d_hidden: Array | None,
    d: tuple[Array, ...], delta: Array, kept: tuple[Array, ...] | None, offsets: Array,
    sizes: Array, batch: int, steps: int, initial: tuple[Array, ...] | None,
) -> None:  # fmt: skip
    """Fill ``delta (N, 3 H)``; see :func:`npnlp.backend.cuda.recurrence.backward`."""
    gates, reset, hidden = memory
    size, rows, (d_states,) = np.int32(hidden.shape[1]), np.int64(len(hidden)), d
    first, second = (kernels.get(FILE, name, real_option(w_hh.dtype)) for name in BACKWARD)
    above = NULL if d_hidden is None else xp.ascontiguousarray(d_hidden)
    grid, w_hh = _grid(int(size), batch), xp.ascontiguousarray(w_hh)
    for t in range(steps - 1, -1 if initial is None else -2, -1):
        first(grid, (SIDE, SIDE), (
            gates, hidden, rows, w_hh, above, d_states, delta, kept[0] if kept else NULL,
            _first(xp, initial), offsets, sizes, size, np.int32(steps), np.int32(t),
        ))  # fmt: skip
        if t >= 0:
            second(grid, (SIDE, SIDE), (
                gates, reset, w_hh, d_states, delta, offsets, sizes, size, np.int32(t),
            ))  # fmt: skip


def _first(xp: Any, initial: tuple[Array, ...] | None) -> Any:
    return NULL if initial is None else xp.ascontiguousarray(initial[0])


def _grid(columns: int, batch: int) -> tuple[int, int]:
    return -(-columns // SMALL), -(-batch // SMALL)
