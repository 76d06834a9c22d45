"""The only loop over time, and backpropagation through it.

    (1)  u_n = W_ih x_n + b_ih                    all N packed rows in one product
    (2)  p_t = W_hh h_{t-1} + b_hh                the loop, over the sequences still running
    (3)  (h_t, ...) = cell(u_t, p_t, h_{t-1}, ...)    elementwise: the cell's own equations
    (4)  h_last, b = h_{length_b}, b              each sequence's own last step

Backward, with ``d_t = dL/dh_t`` and ``delta_t`` the gradient of the cell's sums ``u_t`` and
``p_t``:

    undoes (4)  d_t gets dL/dh_last where t is that sequence's last step
    undoes (3)  delta_t from d_t: the cell's own partial derivatives
    undoes (2)  d_{t-1} = W_hh^T delta_t (+ what passes the cell by, + the layer above),
                dL/dW_hh = sum_t delta_t h_{t-1}^T     in products after the loop
    undoes (1)  dL/dW_ih = delta^T x,  dL/dx = delta W_ih,  dL/db = sum_n delta_n

Only (2) and (3) depend on the step before, so only they are inside the loop. A cell supplies (3)
and its partial derivatives. Source: Elman, "Finding structure in time", 1990; Werbos,
"Backpropagation through time", 1990.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from npnlp.backend import Array
from npnlp.backend.plain import BLOCK
from npnlp.backend.tuned.products import backward_product, forward_product, nowhere, zeros_before
from npnlp.errors import InputError
from npnlp.layers.packing import Packing
from npnlp.layers.recurrent.cell import Cell
from npnlp.layers.recurrent.memory import Probe, RecurrentCache, RecurrentTrace


class Recurrent(Cell):
    """A recurrent layer on packed sequences; subclasses are the cells."""

    def forward(
        self, x: Array, *initial: Array | None, packing: Packing, tokens: Array | None = None
    ) -> tuple[tuple[Array, ...], RecurrentCache]:
        """All hidden states, and each sequence's last states: ``((N, H), (B, H), ...)``.

        ``x (N, D)`` is packed by ``packing``; ``initial``, the first states ``(B, H)``, are in the
        caller's order, zero if not given.
        With ``tokens (N,)``, ``x (V, D)`` is a table and the input at packed row n is
        ``x[tokens[n]]``: the table is projected once, V rows instead of N, and then looked up.
        It is the same number, since the product acts on each row alone.
        """
        rows = len(x) if tokens is None else len(tokens)
        if rows != packing.rows:
            raise InputError(f"{rows} rows of input for a packing of {packing.rows} rows")
        states = self._sorted(initial, packing)
        xp, size = self.backend.xp, self.hidden_size
        whole = self._whole(x)
        first, *others = self.memory
        if whole is None:
            u = self._project(x, tokens)
        else:
            gates = len(self.gates)
            u = xp.empty((rows, size) if gates == 1 else (gates, rows, size), dtype=x.dtype)
        memory = {first: u} | {name: xp.empty((rows, size), dtype=u.dtype) for name in others}
        cache = RecurrentCache(x, tokens, memory, states, packing)
        if whole is None:
            self._run(cache)
        else:
            whole.forward(
                self.kind(), x, tokens, self.weight("weight_ih"), self.weight("weight_hh"),
                self.bias_of_input(), self.bias_in_step(), tuple(memory.values()), states,
                packing.runs[1],
            )  # fmt: skip
        last = (memory[name].take(packing.last_rows, axis=0) for name in self.states)  # (4)
        return (cache.hidden, *last), cache

    def backward(
        self, dy: tuple[Array | None, ...], cache: RecurrentCache, probe: Probe | None = None
    ) -> tuple[Any, ...]:
        """``(dL/dx, dL/dh0, ...)`` from ``dy``, the gradients of what forward returned.

        Any part of ``dy`` may be None where nothing used that output; the gradients of initial
        states are None where forward was given none. ``probe`` is shown the gradient at every step.
        """
        xp, d_hidden = self.backend.xp, dy[0]
        kept = None
        if probe is not None:
            kept = tuple(xp.empty_like(cache.hidden) for _ in self.states)
        packing, rows, dtype = cache.packing, len(cache.hidden), cache.hidden.dtype
        delta = xp.empty((rows, self.deltas * self.hidden_size), dtype=dtype)
        d = tuple(
            xp.zeros((len(packing.lengths), self.hidden_size), dtype=dtype) if given is None
            else packing.sort(given)  # undoes (4)
            for given in (*dy[1:], *(None for _ in self.states[len(dy) - 1 :]))
        )  # fmt: skip
        whole = self._whole(cache.x)
        if whole is None:
            self._run_backward(d_hidden, d, delta, cache, kept)
            self._add_recurrent_grads(delta, cache)
            d_x = self._project_backward(delta, cache)
        else:
            d_x = whole.backward(
                self.kind(), cache.x, cache.tokens, self.weight("weight_ih"),
                self.weight("weight_hh"), tuple(self.grads.values()),
                tuple(cache.memory.values()), cache.initial, packing.runs[1],
                packing.previous_rows, d_hidden, d, delta, kept,
            )  # fmt: skip
        if probe is not None and kept is not None:
            probe(RecurrentTrace(self, cache, kept, delta, d_hidden))
        if cache.initial is None:
            return (d_x, *(None for _ in self.states))
        return (d_x, *(packing.unsort(state) for state in d))

    def _sorted(
        self, initial: tuple[Array | None, ...], packing: Packing
    ) -> tuple[Array, ...] | None:
        given = [state for state in initial if state is not None]
        if not given:
            return None
        if len(given) != len(self.states):
            raise InputError(
                f"{len(given)} initial states for a cell that has {len(self.states)} "
                f"({', '.join(self.states)}); give all or none"
            )
        return tuple(packing.sort(state) for state in given)

    def _whole(self, x: Array) -> Any:
        """The backend's passes of such a layer in one call, or None."""
        if x.dtype != self.dtype:
            return None
        return self.backend.recurrent_layer(self.kind(), self.dtype)

    def _project(self, x: Array, tokens: Array | None) -> Array:
        """(1): ``(N, H)``, or ``(G, N, H)`` of a cell with several gates."""
        weight, bias = self.scaled(self.weight("weight_ih")), self.scaled(self.bias_of_input())
        u = self.backend.affine(x, weight, bias, len(self.gates))  # (1)
        return u if tokens is None else u.take(tokens, axis=u.ndim - 2)  # (1'), the look-up

    def _fused(self) -> Any:
        """The loops of the backend's device for this cell, or None."""
        return self.backend.recurrence(self.kind(), self.hidden_size, self.dtype)

    def _run(self, cache: RecurrentCache) -> None:
        """(2) and (3) over all steps, filling the memory from ``u``."""
        xp, packing, memory = self.backend.xp, cache.packing, cache.memory
        (first, *others), batch = memory.values(), len(packing.lengths)
        w_hh, fused = self.scaled(self.weight("weight_hh")), self._fused()
        if fused is not None:  # the whole loop in one launch
            fused.forward(
                xp, self.kind(), tuple(memory.values()), w_hh, self.bias_in_step(), cache.initial,
                *packing.on_device,
            )  # fmt: skip
            return
        recur = product = forward_product(w_hh, batch, self.backend)
        before: Sequence[Array] | None = cache.initial
        if before is None:
            before, product = zeros_before(w_hh, batch, len(self.states), xp)
        places = [list(memory).index(name) for name in self.states]
        constants, step, gated = self.constants(), self.step, first.ndim == 3
        for start, size in zip(packing.offsets, packing.batch_sizes, strict=True):
            rows = slice(start, start + size)
            now = [first[:, rows] if gated else first[rows]]
            if others:
                now += [array[rows] for array in others]
            if len(before[0]) > size:
                before = [state[:size] for state in before]
            step(now, before, product, *constants)  # (2), (3)
            before, product = [now[place] for place in places] if others else now, recur

    def _run_backward(
        self,
        d_hidden: Array | None,
        d: tuple[Array, ...],
        delta: Array,
        cache: RecurrentCache,
        kept: tuple[Array, ...] | None = None,
    ) -> None:
        """Fill ``delta`` of every packed row; ``d`` become those of the initial states, sorted.

        The gradients of the states of every packed row go into ``kept``, where that is given.
        """
        xp, packing, arrays = self.backend.xp, cache.packing, tuple(cache.memory.values())
        batch, dtype = len(packing.lengths), cache.hidden.dtype
        fused = self._fused()
        if fused is not None:
            fused.backward(
                xp, self.kind(), arrays, self.weight("weight_hh"), d_hidden, d, delta, kept,
                *packing.on_device, cache.initial is not None,
            )  # fmt: skip
            return
        offsets = packing.offsets
        back = backward_product(self.weight("weight_hh"), batch, self.backend)
        room = self.room_for_slopes(min(max(batch, BLOCK), packing.rows), dtype)
        factors = xp.empty((batch, self.factors * self.hidden_size), dtype=dtype)
        # Row b of d waits, untouched, until the loop comes down to sequence b's last step.
        ready, size, sizes, wide = len(offsets), 0, packing.batch_sizes, self.factors
        step_backward, towards = self.step_backward, back
        for t in range(len(offsets) - 1, -1, -1):
            start, end = offsets[t], offsets[t] + sizes[t]
            if t < ready:  # the slopes of a block of steps, this one the last
                ready = min(t, bisect_left(offsets, end - BLOCK))
                base = offsets[ready]
                rows = slice(base, end)
                slopes = self.slopes(
                    [array[..., rows, :] for array in arrays], delta[rows], room[:, : end - base]
                )
            if size != sizes[t]:
                size = sizes[t]
                d_t, factors_t = [state[:size] for state in d], factors[:size]
            if d_hidden is not None:
                d_t[0] += d_hidden[start:end]
            if kept is not None:
                for keep, state in zip(kept, d_t, strict=True):
                    keep[start:end] = state
            here: Any = slopes and [slope[start - base : end - base] for slope in slopes]
            if wide:
                here.append(factors_t)
            if t == 0 and cache.initial is None:
                towards = nowhere
            step_backward(delta[start:end], here, d_t, towards)  # undoes (3), (2)

    def _add_recurrent_grads(self, delta: Array, cache: RecurrentCache) -> None:
        backend, packing, memory = self.backend, cache.packing, cache.memory
        grad, first = self.grads["weight_hh" + self.suffix], len(packing.lengths)
        for gates, columns, name, before in self.operands():
            later, rows = (delta[first:], packing.previous_rows) if before else (delta, None)
            backend.add_outer(grad[gates], later[:, columns], memory[name], rows)  # undoes (2)
            if before and cache.initial is not None:
                backend.add_outer(grad[gates], delta[:first, columns], cache.initial[0])

    def _project_backward(self, delta: Array, cache: RecurrentCache) -> Array:
        if cache.tokens is not None:
            delta = self.backend.segment_sum(delta, cache.tokens, len(cache.x))  # undoes (1')
        grads, suffix = self.grads, self.suffix
        d_u, d_p, weight = self.of_input(delta), self.of_product(delta), self.weight("weight_ih")
        sums = self.backend.xp.zeros(len(weight), dtype=delta.dtype)
        d_x = self.backend.affine_backward(
            d_u, cache.x, weight, grads["weight_ih" + suffix], sums
        )  # undoes (1)
        grads["bias_ih" + suffix] += sums
        grads["bias_hh" + suffix] += sums if d_p is d_u else d_p.sum(axis=0)  # undoes (2)
        return d_x
