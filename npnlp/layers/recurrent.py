"""The only loop over time, and backpropagation through it.

    (1)  u_n = W_ih x_n + b_ih + b_hh              all N packed rows in one product
    (2)  a_t = u_t + W_hh h_{t-1}                  the loop, over the sequences still running
    (3)  h_t = phi(a_t)                            the cell: elementwise
    (4)  h_last, b = h_{length_b}, b               each sequence's own last step

Backward, with ``d_t = dL/dh_t`` and ``delta_t = dL/da_t``:

    undoes (4)  d_t gets dL/dh_last where t is that sequence's last step
    undoes (3)  delta_t = phi'(a_t) * d_t
    undoes (2)  d_{t-1} = W_hh^T delta_t (+ what the layer above gives),
                dL/dW_hh = sum_t delta_t h_{t-1}^T     in products after the loop
    undoes (1)  dL/dW_ih = delta^T x,  dL/dx = delta W_ih,  dL/db = sum_n delta_n

Only (2) and (3) depend on the step before, so only they are inside the loop. A cell supplies (3)
and its derivative. Source: Elman, "Finding structure in time", 1990; Werbos, "Backpropagation
through time", 1990.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Unpack

from npnlp.backend import Array
from npnlp.errors import InputError
from npnlp.layers.base import Layer, LayerOptions, uniform_fan
from npnlp.layers.packing import Packing

#: What backward makes for many rows at once, it makes for so many: they stay in a core's cache,
#: where those of a long sequence would have to come from main memory each time.
BLOCK = 2048


@dataclass(frozen=True)
class RecurrentCache:
    """What backpropagation through time has to remember.

    ``x (N, D)``, or the table ``(V, D)`` with ``tokens (N,)``; ``hidden (N, H)``, all hidden
    states; ``h0 (B, H)`` in sorted order, or None for zeros; ``packing``.
    """

    x: Array
    tokens: Array | None
    hidden: Array
    h0: Array | None
    packing: Packing

    @property
    def nbytes(self) -> int:
        """Bytes that forward made and holds for backward.

        What the caller gave and holds anyway (``x``, ``tokens``, ``packing``) is not counted.
        """
        arrays = (self.hidden, self.h0)
        return sum(array.nbytes for array in arrays if array is not None)


@dataclass(frozen=True)
class RecurrentTrace:
    """What a probe sees of a backward pass, a row for each packed row.

    ``cache`` of the forward pass; ``d_hidden (N, H)``, ``dL/dh_t`` in all; ``delta (N, H)``,
    ``dL/da_t``; ``from_above (N, H)``, the part of ``dL/dh_t`` that the layer above gave at that
    step, or None where it gave none.
    """

    cache: RecurrentCache
    d_hidden: Array
    delta: Array
    from_above: Array | None


Probe = Callable[[RecurrentTrace], None]


class Recurrent(Layer, ABC):
    """A recurrent layer on packed sequences; subclasses are the cells.

    Parameters, in PyTorch's names and shapes: ``weight_ih_l0 (H, D)``, ``weight_hh_l0 (H, H)``,
    ``bias_ih_l0 (H,)``, ``bias_hh_l0 (H,)``, all uniform in ``+-1/sqrt(H)`` at first.
    """

    def __init__(self, input_size: int, hidden_size: int, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.hidden_size = hidden_size
        self.add_parameter("weight_ih_l0", uniform_fan((hidden_size, input_size), hidden_size))
        self.add_parameter("weight_hh_l0", uniform_fan((hidden_size, hidden_size), hidden_size))
        self.add_parameter("bias_ih_l0", uniform_fan((hidden_size,), hidden_size))
        self.add_parameter("bias_hh_l0", uniform_fan((hidden_size,), hidden_size))

    @abstractmethod
    def activate(self, a: Array) -> None:
        """``h = phi(a)``, in place, for one step ``(b, H)``."""

    @abstractmethod
    def derivative(self, h: Array) -> Array:
        """``phi'(a)`` from ``h = phi(a)``, for all packed rows at once ``(N, H)``."""

    def forward(
        self,
        x: Array,
        h0: Array | None = None,
        *,
        packing: Packing,
        tokens: Array | None = None,
    ) -> tuple[tuple[Array, Array], RecurrentCache]:
        """All hidden states and each sequence's last one: ``((N, H), (B, H))``.

        ``x (N, D)`` is packed by ``packing``; ``h0 (B, H)`` is in the caller's order, zero if None.
        With ``tokens (N,)``, ``x (V, D)`` is a table and the input at packed row n is
        ``x[tokens[n]]``: the table is projected once, V rows instead of N, and then looked up.
        It is the same number, since the product acts on each row alone.
        """
        rows = len(x) if tokens is None else len(tokens)
        if rows != packing.rows:
            raise InputError(f"{rows} rows of input for a packing of {packing.rows} rows")
        hidden = self._project(x, tokens)
        if h0 is not None:
            h0 = packing.sort(h0)
        self._run(hidden, h0, packing)
        h_last = hidden.take(packing.last_rows, axis=0)  # (4)
        return (hidden, h_last), RecurrentCache(x, tokens, hidden, h0, packing)

    def backward(
        self,
        dy: tuple[Array | None, Array | None],
        cache: RecurrentCache,
        probe: Probe | None = None,
    ) -> tuple[Array, Array | None]:
        """``(dL/dx, dL/dh0)`` from ``dy``, the gradients of all hidden states and of the last.

        Either part of ``dy`` may be None where nothing used that output; ``dL/dh0`` is None where
        forward was given no ``h0``. ``probe`` is shown the gradient at every step.
        """
        d_hidden, d_last = dy
        kept = None if probe is None else self.backend.xp.empty_like(cache.hidden)
        delta, d_h0 = self._run_backward(d_hidden, d_last, cache, kept)
        if probe is not None and kept is not None:
            probe(RecurrentTrace(cache, kept, delta, d_hidden))
        self._add_recurrent_grads(delta, cache)
        d_x = self._project_backward(delta, cache)
        return d_x, None if d_h0 is None else cache.packing.unsort(d_h0)

    def _project(self, x: Array, tokens: Array | None) -> Array:
        weights = self.parameters
        u: Array = self.backend.xp.dot(x, weights["weight_ih_l0"].T)  # (1)
        u += weights["bias_ih_l0"] + weights["bias_hh_l0"]
        if tokens is not None:
            u = u.take(tokens, axis=0)  # (1'), the look-up
        return u

    def _run(self, a: Array, h0: Array | None, packing: Packing) -> None:
        """(2) and (3) over all steps, turning the rows of ``u`` into hidden states in place."""
        xp = self.backend.xp
        w_hh = xp.ascontiguousarray(self.parameters["weight_hh_l0"].T)
        recurrence = xp.empty((packing.batch_sizes[0], self.hidden_size), dtype=a.dtype)
        h, dot, activate = h0, xp.dot, self.activate
        for start, size in zip(packing.offsets, packing.batch_sizes, strict=True):
            a_t = a[start : start + size]
            if h is not None:
                product = recurrence[:size]
                dot(h[:size], w_hh, out=product)
                a_t += product  # (2)
            activate(a_t)  # (3)
            h = a_t

    def _run_backward(
        self,
        d_hidden: Array | None,
        d_last: Array | None,
        cache: RecurrentCache,
        kept: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """``delta (N, H)`` of every packed row, and ``dL/dh0 (B, H)`` in sorted order.

        ``dL/dh_t`` of every packed row goes into ``kept``, where that is given.
        """
        xp, packing = self.backend.xp, cache.packing
        w_hh = self.parameters["weight_hh_l0"]
        # delta starts as phi'(a), a block of rows before the loop comes there, and is multiplied by
        # d_t step by step.
        if packing.rows <= BLOCK:
            delta, ready = self.derivative(cache.hidden), 0
        else:
            delta, ready = xp.empty_like(cache.hidden), packing.rows
        if d_last is None:
            d = xp.zeros((packing.batch_sizes[0], self.hidden_size), dtype=delta.dtype)
        else:
            d = packing.sort(d_last)  # undoes (4)
        # Row b of d waits, untouched, until the loop comes down to sequence b's last step.
        steps = zip(reversed(packing.offsets), reversed(packing.batch_sizes), strict=True)
        for start, size in steps:
            if start < ready:
                rows = slice(max(0, min(start, ready - BLOCK)), ready)
                delta[rows] = self.derivative(cache.hidden[rows])
                ready = rows.start
            d_t = d[:size]
            delta_t = delta[start : start + size]
            if d_hidden is not None:
                d_t += d_hidden[start : start + size]
            if kept is not None:
                kept[start : start + size] = d_t
            delta_t *= d_t  # undoes (3)
            if start > 0 or cache.h0 is not None:
                xp.dot(delta_t, w_hh, out=d_t)  # undoes (2), towards h_{t-1}
        return delta, None if cache.h0 is None else d

    def _add_recurrent_grads(self, delta: Array, cache: RecurrentCache) -> None:
        xp, packing, grads = self.backend.xp, cache.packing, self.grads
        first = packing.batch_sizes[0]
        later = delta[first:]
        for start in range(0, len(later), BLOCK):
            rows = slice(start, start + BLOCK)
            previous = cache.hidden.take(packing.previous_rows[rows], axis=0)
            grads["weight_hh_l0"] += xp.dot(later[rows].T, previous)  # undoes (2), towards W_hh
        if cache.h0 is not None:
            grads["weight_hh_l0"] += xp.dot(delta[:first].T, cache.h0)

    def _project_backward(self, delta: Array, cache: RecurrentCache) -> Array:
        if cache.tokens is not None:
            delta = self.backend.segment_sum(delta, cache.tokens, len(cache.x))  # undoes (1')
        xp = self.backend.xp
        dot, grads = xp.dot, self.grads
        # A product with ones is a sum over rows, at the speed of BLAS.
        d_bias = dot(xp.ones(len(delta), dtype=delta.dtype), delta)  # undoes (1), towards b
        grads["bias_ih_l0"] += d_bias
        grads["bias_hh_l0"] += d_bias
        grads["weight_ih_l0"] += dot(delta.T, cache.x)  # undoes (1), towards W_ih
        d_x: Array = dot(delta, self.parameters["weight_ih_l0"])  # undoes (1), towards x
        return d_x
