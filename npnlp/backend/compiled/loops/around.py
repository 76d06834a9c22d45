"""The input projection and the gradients of a recurrent layer, for the units ``low`` to ``high``.

Equations (1) and (2) are those of :mod:`npnlp.layers.recurrent.through_time`. A thread computes, of
each gate, these columns of ``u`` and ``delta`` and these rows of the weights' gradients.
``meeting`` is ``threads`` where threads share the units in the loop, and 1 where they share the
sequences (``backend/compiled/threads/parts.py``): then they first wait for each other here.

``delta`` has a block of columns for each gate. A GRU's has one more: the last is the gradient of
``u_n``, the one before that of ``q``.
"""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.panels import no_rows
from npnlp.backend.compiled.products import block_of, outer, pass_on, project
from npnlp.backend.compiled.threads.meeting import meet
from npnlp.backend.compiled.vectors.elementwise import columns
from npnlp.backend.compiled.vectors.kernel import inner


@inner
def begin(
    x: Array, w_ih_t: Array, bias: Array, tokens: Array, table: Array, arrivals: Array,
    threads: int, meeting: int, gates: bool | None, low: int, high: int,
) -> None:  # fmt: skip
    """(1): ``table (G, V, H) = x W_ih^T + b``, of which :func:`look_up` takes rows.

    Every thread checks all ``tokens``, so that all of them raise and none waits for another.
    """
    for token in tokens:
        if not 0 <= token < len(x):
            raise IndexError("a token is out of range")
    project(x, w_ih_t, bias, table, gates, low, high)
    if meeting < threads:
        meet(arrivals, threads, 0)


@inner
def look_up(table: Array, tokens: Array, u: Array, own: Array) -> None:
    """(1'): ``u[b] = table[tokens[b]]``; nothing without tokens."""
    for b in range(len(tokens)):
        row = np.uint64(tokens[b])
        for j in own:
            u[b, j] = table[row, j]


@inner
def rows_before(state: Array, initial: Array, sizes: Array, start: int, back: int) -> Array:
    """The states before the step whose rows begin at ``start``, ``back`` steps before the last.

    Zeros where ``initial`` has no rows.
    """
    if start > 0:
        return state[start - sizes[len(sizes) - 2 - back] : start]
    return initial if len(initial) else np.zeros((sizes[0], state.shape[1]), dtype=state.dtype)


@inner
def add_up(delta: Array, tokens: Array, d_table: Array, units: int, low: int, high: int) -> None:
    """Undo (1'): ``d_table[tokens[b]] += delta[b]`` in units ``low`` to ``high`` of each gate."""
    step, wide = units, high - low
    if wide == units:  # all columns at once
        step = wide = delta.shape[1]
    for b in range(len(tokens)):
        row = np.uint64(tokens[b])
        for start in range(low, delta.shape[1], step):
            for j in columns(start, start + wide):
                d_table[row, j] += delta[b, j]


@inner
def finish(
    delta: Array, hidden: Array, sizes: Array, previous: Array, initial: Array, d_w_hh: Array,
    x: Array, tokens: Array, d_table: Array, w_ih: Array, d_w_ih: Array, d_b_ih: Array,
    d_b_hh: Array, dx: Array, arrivals: Array, threads: int, meeting: int, low: int, high: int,
) -> None:  # fmt: skip
    """After the loop: the gradients of all parameters, and ``dx``.

    ``d_table`` is ``delta`` where nothing was looked up. Threads that share the units filled it in
    the loop; threads that share the sequences fill it here, in the same order. After all threads
    have met, each computes the same fraction of the columns of ``dx`` as of the units.
    """
    units, wide, met = hidden.shape[1], dx.shape[1], len(sizes) if meeting > 1 else 0
    if meeting < threads:
        meet(arrivals, threads, met)
        met, end = met + 1, len(delta)
        for back in range(len(sizes)):
            start = end - sizes[len(sizes) - 1 - back]
            add_up(delta[start:end], tokens[start:end], d_table, units, low, high)
            end = start
    _add_recurrent(delta, hidden, previous, initial, d_w_hh, low, high)
    _add_projected(d_table, x, d_w_ih, d_b_ih, d_b_hh, units, low, high)
    meet(arrivals, threads, met)
    pass_on(d_table, w_ih, dx, units, wide * low // units, wide * high // units)  # undoes (1)


@inner
def _add_recurrent(
    delta: Array, hidden: Array, previous: Array, initial: Array, grad: Array, low: int, high: int
) -> None:
    """Undo (2), towards ``W_hh``: ``grad += sum_t delta_t h_{t-1}^T``.

    ``previous (N - B,)`` are the rows of ``h_{t-1}`` in ``hidden`` for all steps but the first;
    ``initial (B, H)`` is before the first step, or no rows for zeros.
    """
    units, first = hidden.shape[1], len(delta) - len(previous)
    for start in range(0, len(grad), units):
        here, rows = delta[:, start : start + units], grad[start : start + units]
        if len(previous):
            outer(here[first:], hidden, previous, rows, low, high)
        if len(initial):
            outer(here[:first], initial, previous[:0], rows, low, high)


@inner
def _add_projected(
    delta: Array, x: Array, grad: Array, d_bias_ih: Array, d_bias_hh: Array, units: int, low: int,
    high: int,
) -> None:  # fmt: skip
    """Undo (1) and (2), towards ``W_ih`` and both biases."""
    sums = np.zeros(delta.shape[1], dtype=delta.dtype)
    for n in range(len(delta)):
        for start in range(0, len(sums), units):
            for j in columns(start + low, start + high):
                sums[j] += delta[n, j]
    for start in range(0, len(grad), units):
        at = block_of(start, units, len(grad), len(sums))
        outer(delta[:, at : at + units], x, no_rows(), grad[start : start + units], low, high)
        for j in range(low, high):
            d_bias_ih[start + j] += sums[at + j]
            d_bias_hh[start + j] += sums[start + j]
