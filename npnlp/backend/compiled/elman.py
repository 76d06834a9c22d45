"""The two loops over time of :class:`npnlp.layers.elman.Elman`, compiled.

Threads share the units: each has those from ``low`` to ``high``, for all sequences, and with them
its own part of the weights. Before a product, which takes the states of all units, they meet.
"""

from __future__ import annotations

from npnlp.backend.base import Array
from npnlp.backend.compiled.elementwise import add, columns, copy, tanh
from npnlp.backend.compiled.kernel import kernel
from npnlp.backend.compiled.meeting import meet
from npnlp.backend.compiled.products import add_product, panels_of, room_for


@kernel
def forward(
    hidden: Array, w_hh_t: Array, initial: Array, sizes: Array, relu: bool, arrivals: Array,
    threads: int, low: int, high: int,
) -> None:  # fmt: skip
    """``h_t = phi(u_t + W_hh h_{t-1})``, in place of ``u (N, H)``.

    ``w_hh_t (H, H)`` is transposed; ``initial (B, H)``, or no rows for zeros.
    """
    own = columns(low, high)
    panels = panels_of(w_hh_t, 1, low, high)
    rest, known = room_for(sizes[0], panels), len(initial) > 0
    before, start = initial, 0
    for t in range(len(sizes)):
        now = hidden[start : start + sizes[t]]
        if known:
            add_product(before[: len(now)], panels[0], rest, now, low, high)  # (1)
        for b in range(len(now)):
            for j in own:  # (2)
                if relu:
                    now[b, j] = 0 if now[b, j] < 0 else now[b, j]
                else:
                    now[b, j] = tanh(now[b, j])
        before, start, known = now, start + sizes[t], True
        meet(arrivals, threads, t)


@kernel
def backward(
    hidden: Array, w_hh: Array, d_hidden: Array, d: Array, delta: Array, kept: Array,
    sizes: Array, has_initial: bool, relu: bool, arrivals: Array, threads: int, low: int,
    high: int,
) -> None:  # fmt: skip
    """``delta_t = phi'(a_t) d_t`` and ``d_{t-1} = delta_t W_hh``, from the last step down.

    ``d_hidden`` and ``kept`` ``(N, H)``, or no rows where they are not wanted.
    """
    own = columns(low, high)
    panels = panels_of(w_hh, 1, low, high)
    rest, end = room_for(sizes[0], panels), len(hidden)
    for back in range(len(sizes)):
        size = sizes[len(sizes) - 1 - back]
        start = end - size
        h, out, d_t = hidden[start:end], delta[start:end], d[:size]
        if len(d_hidden):
            add(d_hidden[start:end], d_t, own)
        if len(kept):
            copy(d_t, kept[start:end], own)
        for b in range(size):
            for j in own:  # undoes (2)
                phi = h[b, j]
                if relu:
                    out[b, j] = d_t[b, j] if phi > 0 else 0
                else:
                    out[b, j] = d_t[b, j] * (1 - phi * phi)
        meet(arrivals, threads, back)
        if start > 0 or has_initial:
            for b in range(size):
                for j in own:
                    d_t[b, j] = 0
            add_product(out, panels[0], rest, d_t, low, high)  # undoes (1)
        end = start
