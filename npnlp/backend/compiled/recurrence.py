"""The loop over time, compiled: what ``Recurrent`` of :mod:`npnlp.layers.recurrent` does.

It is given what the kernels of a CUDA device are given (:mod:`npnlp.backend.recurrence`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled import elman, gru, lstm
from npnlp.backend.compiled.sharing import share_meeting

#: The loops of each kind, how many states it has, and what they are told besides.
KINDS: dict[str, tuple[Any, int, tuple[bool, ...]]] = {
    "elman_tanh": (elman, 1, (False,)),
    "elman_relu": (elman, 1, (True,)),
    "gru": (gru, 1, ()),
    "lstm": (lstm, 2, ()),
}

#: Whether the weights of forward come as :meth:`npnlp.layers.cell.Cell.scaled` makes them.
SCALED = False


def forward(
    xp: Any, kind: str, memory: tuple[Array, ...], w_hh: Array, extra: Array | None,
    initial: tuple[Array, ...] | None, offsets: Array, sizes: Array, batch: int, steps: int,
) -> None:  # fmt: skip
    """See :func:`npnlp.backend.recurrence.forward`."""
    loops, states, options = KINDS[kind]
    bias = () if extra is None else (_given(extra),)
    before = map(_given, initial) if initial else (_no_rows(w_hh),) * states
    arguments = (*_own(memory), w_hh.T, *bias, *before, sizes, *options)
    share_meeting(loops.forward, arguments, w_hh.shape[1], batch * steps * len(w_hh))


def backward(
    xp: Any, kind: str, memory: tuple[Array, ...], w_hh: Array, d_hidden: Array | None,
    d: tuple[Array, ...], delta: Array, kept: tuple[Array, ...] | None, offsets: Array,
    sizes: Array, batch: int, steps: int, has_initial: bool,
) -> None:  # fmt: skip
    """See :func:`npnlp.backend.recurrence.backward`."""
    loops, states, options = KINDS[kind]
    none = _no_rows(w_hh)
    arguments = (
        *_own(memory), w_hh, none if d_hidden is None else _given(d_hidden), *_own(d),
        *_own((delta,)), *(_own(kept) if kept else (none,) * states), sizes, has_initial, *options,
    )  # fmt: skip
    share_meeting(loops.backward, arguments, w_hh.shape[1], batch * steps * len(w_hh))


def _no_rows(w_hh: Array) -> Array:
    """Stands for an array that was not given: one compiled function then serves both cases."""
    return np.empty((0, w_hh.shape[1]), dtype=w_hh.dtype)


_given = np.ascontiguousarray


def _own(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """Arrays that a loop writes to: a copy would not do."""
    if not all(array.flags.c_contiguous for array in arrays):
        raise ValueError("a recurrence has to write to an array that is not contiguous")
    return arrays
