"""The two loops over time of :class:`npnlp.layers.elman.Elman`, compiled.

Sequences are independent: a loop runs over those from ``low`` to ``high`` only, so that several
threads can share a batch.
"""

from __future__ import annotations

from npnlp.backend.base import Array
from npnlp.backend.compiled.elementwise import add, copy, tanh
from npnlp.backend.compiled.kernel import inner, kernel
from npnlp.backend.compiled.products import add_product, panels_of, room_for


@kernel
def forward(
    hidden: Array, w_hh_t: Array, initial: Array, sizes: Array, relu: bool, low: int, high: int
) -> None:
    """``h_t = phi(u_t + W_hh h_{t-1})``, in place of ``u (N, H)``.

    ``w_hh_t (H, H)`` is transposed; ``initial (B, H)``, or no rows for zeros.
    """
    panels = panels_of(w_hh_t, 1)
    rest, known = room_for(high - low, panels), len(initial) > 0
    before, start = initial[low:high], 0
    for size in sizes:
        now = hidden[start + low : start + min(size, high)]
        if len(now) == 0:
            break
        if known:
            add_product(before[: len(now)], panels[0], rest, now)  # (1)
        a = now.reshape(-1)
        for i in range(len(a)):  # (2)
            if relu:
                a[i] = 0 if a[i] < 0 else a[i]
            else:
                a[i] = tanh(a[i])
        before, start, known = now, start + size, True


@inner
def _slope(phi: Array, d: Array, delta: Array, relu: bool) -> None:
    """``delta = phi' d``, in terms of phi."""
    if relu:
        for i in range(len(phi)):
            delta[i] = d[i] if phi[i] > 0 else 0
    else:
        for i in range(len(phi)):
            delta[i] = d[i] * (1 - phi[i] * phi[i])


@kernel
def backward(
    hidden: Array, w_hh: Array, d_hidden: Array, d: Array, delta: Array, kept: Array,
    sizes: Array, has_initial: bool, relu: bool, low: int, high: int,
) -> None:  # fmt: skip
    """``delta_t = phi'(a_t) d_t`` and ``d_{t-1} = delta_t W_hh``, from the last step down.

    ``d_hidden`` and ``kept`` ``(N, H)``, or no rows where they are not wanted.
    """
    panels = panels_of(w_hh, 1)
    rest, start = room_for(high - low, panels), len(hidden)
    for t in range(len(sizes) - 1, -1, -1):
        start -= sizes[t]
        first, last = start + low, start + min(sizes[t], high)
        if last <= first:
            continue
        h, out, d_t = hidden[first:last], delta[first:last], d[low : low + last - first]
        if len(d_hidden):
            add(d_hidden[first:last], d_t)
        if len(kept):
            copy(d_t, kept[first:last])
        _slope(h.reshape(-1), d_t.reshape(-1), out.reshape(-1), relu)  # undoes (2)
        if t > 0 or has_initial:
            d_t.reshape(-1)[:] = 0
            add_product(out, panels[0], rest, d_t)  # undoes (1)
