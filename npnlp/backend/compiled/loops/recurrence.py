"""A recurrent layer in one compiled call each way: what ``Recurrent`` does in its parts.

(:mod:`npnlp.layers.recurrent.recurrent`.) Threads share its units and meet at every step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.loops import elman, gru, lstm
from npnlp.backend.compiled.threads.sharing import share_meeting

#: The passes of each kind, how many states it has, and what they are told besides.
KINDS: dict[str, tuple[Any, int, tuple[bool, ...]]] = {
    "elman_tanh": (elman, 1, (False,)),
    "elman_relu": (elman, 1, (True,)),
    "gru": (gru, 1, ()),
    "lstm": (lstm, 2, ()),
}
NO_TOKENS = np.empty(0, dtype=np.int64)


def forward(
    kind: str, x: Array, tokens: Array | None, w_ih: Array, w_hh: Array, bias: Array,
    extra: Array | None, memory: tuple[Array, ...], initial: tuple[Array, ...] | None, sizes: Array,
) -> None:  # fmt: skip
    """Fill ``memory``, the cell's arrays of all packed rows, the first ``(N, H)`` or ``(G, N, H)``.

    ``x (N, D)``, or a table ``(V, D)`` with ``tokens (N,)``; ``bias (G H,)`` of the sums, and
    ``extra (H,)`` what the cell adds in each step; ``initial``, each ``(B, H)``, None for zeros;
    ``sizes (T,)``, the rows of each step.
    """
    passes, states, options = KINDS[kind]
    units, first = w_hh.shape[1], memory[0].reshape(-1, memory[0].shape[-2], w_hh.shape[1])
    table = first if tokens is None else np.empty((len(first), len(x), units), dtype=w_hh.dtype)
    arguments = (
        _given(x), w_ih.T, bias.reshape(-1, units), _numbers(tokens), table, *_own(*memory), w_hh.T,
        *(() if extra is None else (_given(extra),)), *_states(initial, states, w_hh), sizes,
        *options,
    )  # fmt: skip
    each = first.shape[1] * len(w_hh) + x.size * len(first)
    share_meeting(passes.forward, arguments, units, each)


def backward(
    kind: str, x: Array, tokens: Array | None, w_ih: Array, w_hh: Array, grads: tuple[Array, ...],
    memory: tuple[Array, ...], initial: tuple[Array, ...] | None, sizes: Array, previous: Array,
    d_hidden: Array | None, d: tuple[Array, ...], delta: Array, kept: tuple[Array, ...] | None,
) -> Array:  # fmt: skip
    """``dL/dx``; ``grads`` (of ``w_ih``, ``w_hh`` and both biases) are added to.

    ``d`` are the gradients of the last states, each ``(B, H)``, and become those of the initial
    ones. ``delta (N, .)`` is filled, and ``kept``, where given, with the gradients of the states at
    all rows. ``d_hidden (N, H)`` or None; ``previous (N - B,)`` is the row before each row that is
    no first step.
    """
    passes, states, options = KINDS[kind]
    d_w_ih, d_w_hh, d_b_ih, d_b_hh = _own(*grads)
    dx = np.empty((len(x), w_ih.shape[1]), dtype=w_ih.dtype)
    d_table = delta
    if tokens is not None:
        d_table = np.zeros((len(x), delta.shape[1]), dtype=delta.dtype)
    none = _no_rows(w_hh)
    arguments = (
        *_own(*memory), w_hh, none if d_hidden is None else _given(d_hidden), *_own(*d, delta),
        *(_own(*kept) if kept else (none,) * states), sizes, previous,
        _states(initial, states, w_hh)[0], d_w_hh, _given(x), _numbers(tokens), d_table, w_ih,
        d_w_ih, d_b_ih, d_b_hh, dx, *options,
    )  # fmt: skip
    each = 2 * (len(delta) * len(w_hh) + dx.size * len(w_hh) // w_hh.shape[1])
    share_meeting(passes.backward, arguments, w_hh.shape[1], each)
    return dx


def _no_rows(w_hh: Array) -> Array:
    """Stands for an array that was not given: one compiled function then serves both cases."""
    return w_hh[:0]


def _states(given: tuple[Array, ...] | None, states: int, w_hh: Array) -> tuple[Array, ...]:
    return tuple(map(_given, given)) if given else (_no_rows(w_hh),) * states


def _numbers(tokens: Array | None) -> Array:
    return NO_TOKENS if tokens is None else np.ascontiguousarray(tokens, dtype=np.int64)


_given = np.ascontiguousarray


def _own(*arrays: Array) -> tuple[Array, ...]:
    """Arrays that a pass writes to: a copy would not do."""
    for array in arrays:
        if not array.flags.c_contiguous:
            raise ValueError("a recurrence has to write to an array that is not contiguous")
    return arrays
