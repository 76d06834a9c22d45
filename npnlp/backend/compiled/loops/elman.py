"""Both passes of :class:`npnlp.layers.recurrent.elman.Elman`, compiled.

Threads share the units or the sequences (``backend/compiled/threads/parts.py``): each computes
units ``left`` to ``right`` of sequences ``top`` to ``bottom``. Threads that share the units meet
after every step, because the next matrix product needs all units.
"""

from __future__ import annotations

from npnlp.backend.base import Array
from npnlp.backend.compiled.loops.around import add_up, begin, finish, look_up
from npnlp.backend.compiled.panels import panels_of, room_for
from npnlp.backend.compiled.products import BLOCK, add_product
from npnlp.backend.compiled.threads.meeting import meet
from npnlp.backend.compiled.threads.parts import part_of
from npnlp.backend.compiled.vectors.elementwise import add, columns, copy, relu_of, tanh_of
from npnlp.backend.compiled.vectors.kernel import kernel
from npnlp.backend.compiled.vectors.vectors import Number, rowwise


@rowwise
def to_tanh(a: Number) -> tuple[Number, ...]:
    """``tanh a``."""
    return (tanh_of(a),)


@rowwise
def to_relu(a: Number) -> tuple[Number, ...]:
    """``max(a, 0)``."""
    return (relu_of(a),)


@rowwise
def from_tanh(h: Number, d_h: Number) -> tuple[Number | float, ...]:
    """``dL/da``, and zero, to which the undoing of (2) adds."""
    return d_h * (1 - h * h), 0.0


@rowwise
def from_relu(h: Number, d_h: Number) -> tuple[Number | float, ...]:
    """The same for ReLU."""
    return h.where(">", 0, d_h, 0.0), 0.0


@kernel
def forward(
    x: Array, w_ih_t: Array, bias: Array, tokens: Array, table: Array, hidden: Array,
    w_hh_t: Array, initial: Array, sizes: Array, relu: bool, arrivals: Array, threads: int,
    low: int, high: int,
) -> None:  # fmt: skip
    """``h_t = phi(u_t + W_hh h_{t-1})``, ``hidden (N, H)``.

    ``table (1, V, H)`` is filled with ``x W_ih^T + b``; its rows ``tokens (N,)`` are ``u``. Without
    tokens it is ``hidden``. Weights are transposed; ``initial (B, H)``, or no rows for zeros.
    """
    top, bottom, left, right, meeting = part_of(sizes, hidden, threads, low, high)
    begin(x, w_ih_t, bias, tokens, table, arrivals, threads, meeting, None, low, high)  # (1)
    own, panels = columns(left, right), panels_of(w_hh_t, 1, left, right)
    rest, known = room_for(sizes[0], panels), len(initial) > 0
    before, start = initial, 0
    for t in range(len(sizes)):
        end = start + sizes[t]
        own_end = min(start + bottom, end)
        for first in range(start + top, own_end, BLOCK):  # rows that stay in the cache
            last = min(first + BLOCK, own_end)
            now, some = hidden[first:last], slice(first - start, last - start)
            look_up(table[0], tokens[first:last], now, own)  # (1')
            if known:
                add_product(before[some], panels[0], rest, now, left, right)  # (2) a = u + W_hh h
            if relu:  # (3) phi(a)
                to_relu((now,), (now,), left, right)
            else:
                to_tanh((now,), (now,), left, right)
        before, start, known = hidden[start:end], end, True
        meet(arrivals, meeting, t)


@kernel
def backward(
    hidden: Array, w_hh: Array, d_hidden: Array, d: Array, delta: Array, kept: Array,
    sizes: Array, previous: Array, initial: Array, d_w_hh: Array, x: Array, tokens: Array,
    d_table: Array, w_ih: Array, d_w_ih: Array, d_b_ih: Array, d_b_hh: Array, dx: Array,
    relu: bool, arrivals: Array, threads: int, low: int, high: int,
) -> None:  # fmt: skip
    """``delta_t = phi'(a_t) d_t`` and ``d_{t-1} = delta_t W_hh``, from the last step down.

    ``d_hidden`` and ``kept``, ``dL/dh`` of all rows, are ``(N, H)``, or no rows for None.
    ``d_table (V, H)`` is zero at first; without tokens it is ``delta``.
    """
    top, bottom, left, right, meeting = part_of(sizes, hidden, threads, low, high)
    own, panels = columns(left, right), panels_of(w_hh, 1, left, right)
    rest, end, units = room_for(sizes[0], panels), len(hidden), hidden.shape[1]
    for back in range(len(sizes)):
        size = sizes[len(sizes) - 1 - back]
        start = end - size
        first, last = start + min(top, size), start + min(bottom, size)
        h, out, d_t = hidden[first:last], delta[first:last], d[first - start : last - start]
        if len(d_hidden):
            add(d_hidden[first:last], d_t, own)
        if len(kept):
            copy(d_t, kept[first:last], own)
        if relu:  # undoes (3)
            from_relu((h, d_t), (out, d_t), left, right)
        else:
            from_tanh((h, d_t), (out, d_t), left, right)
        if meeting == threads:
            add_up(out, tokens[first:last], d_table, units, low, high)  # undoes (1')
        meet(arrivals, meeting, back)
        if start > 0 or len(initial):
            add_product(out, panels[0], rest, d_t, left, right)  # undoes (2)
        end = start
    finish(
        delta, hidden, sizes, previous, initial, d_w_hh, x, tokens, d_table, w_ih, d_w_ih, d_b_ih,
        d_b_hh, dx, arrivals, threads, meeting, low, high,
    )  # fmt: skip
