"""The Elman cell of the tuned loop; the equations are in ``layers/recurrent/elman.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from npnlp.backend.operations import Array
from npnlp.backend.tuned.cell import TunedCell
from npnlp.backend.tuned.products import ALL, Product


class Elman(TunedCell):
    """``h = tanh(u + W_hh h_before)``."""

    gates = 1
    deltas = 1

    def constants(self, b_hh: Array, batch: int) -> tuple[Any, ...]:
        """``phi``, in place."""
        return (self.xp.tanh,)

    def step(
        self, now: Sequence[Array], u: Array, before: Sequence[Array], recur: Product,
        *constants: Any,
    ) -> None:  # fmt: skip
        """``a`` and then ``h``, in the array of ``u``."""
        (a,), (h,), (phi,) = now, before, constants
        self.xp.add(u, recur(h), out=a)  # (1) a = u + W_hh h
        phi(a, a)  # (2) phi(a), in place

    def slopes(self, arrays: Sequence[Array], delta: Array, scratch: Array) -> tuple[Array, ...]:
        """``phi'(a) = 1 - h^2``."""
        (h,) = arrays
        self.xp.multiply(h, h, out=delta)
        self.xp.subtract(1, delta, out=delta)
        return ()

    def step_backward(
        self, delta: Array, slopes: Sequence[Array], d: Sequence[Array], back: Product
    ) -> None:
        """``delta = phi'(a) dL/dh`` and ``dL/dh_before = delta W_hh``."""
        (d_h,) = d
        delta *= d_h  # undoes (2)
        back(delta, ALL, d_h)  # undoes (1)


class ReLUElman(Elman):
    """``h = max(u + W_hh h_before, 0)``."""

    def constants(self, b_hh: Array, batch: int) -> tuple[Any, ...]:
        """``phi``, in place."""
        maximum = self.xp.maximum
        return (lambda a, out: maximum(a, 0, out=out),)

    def slopes(self, arrays: Sequence[Array], delta: Array, scratch: Array) -> tuple[Array, ...]:
        """``phi'(a)``: 1 where h is above 0, else 0."""
        (h,) = arrays
        delta[...] = 0  # imaginary parts, if there are any
        self.xp.sign(h.real, out=delta.real)
        return ()
