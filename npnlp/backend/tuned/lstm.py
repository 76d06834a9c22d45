"""The LSTM of the tuned loop; the equations are in ``layers/recurrent/lstm.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from npnlp.backend.operations import Array
from npnlp.backend.tuned.cell import TunedCell, sigma_of_negated
from npnlp.backend.tuned.products import ALL, Product


class LSTM(TunedCell):
    """``c = f c_before + i g``, ``h = o tanh(c)``, in the order i, f, g, o."""

    gates = 4
    candidate = 2
    states = ("hidden", "cell")
    arrays = ("gates", "cell", "tanh_cell", "hidden")
    memory = ("gates", "tanh_cell")
    deltas = 4
    scratch = 3
    factors = 4

    def arranged(self, weight: Array) -> Array:
        """i, f, o, g: those with sigma side by side, and negated."""
        arranged, size = self.xp.empty_like(weight), self.hidden_size
        self.xp.negative(weight[: 2 * size], out=arranged[: 2 * size])
        self.xp.negative(weight[3 * size :], out=arranged[2 * size : 3 * size])
        arranged[3 * size :] = weight[2 * size : 3 * size]
        return arranged  # type: ignore[no-any-return]

    def step(
        self, now: Sequence[Array], u: Array, before: Sequence[Array], recur: Product,
        *constants: Any,
    ) -> None:  # fmt: skip
        """(1) to (5)."""
        xp, (one,) = self.xp, constants
        (a, c, tanh_c, h), (h_before, c_before) = now, before
        p = recur(h_before)
        xp.add(p, u, out=p)  # (1)
        (i, f, o, g), gates = p, a
        sigma_of_negated(p[:3], one, xp)  # (2) with the next lines
        xp.tanh(g, out=g)
        xp.multiply(f, c_before, out=c)  # (3) c = f * c_before + i * g
        xp.multiply(i, g, out=h)
        c += h
        xp.tanh(c, out=tanh_c)  # (4)
        xp.multiply(o, tanh_c, out=h)  # (5) h = o * tanh(c)
        gates[:2], gates[2], gates[3] = p[:2], g, o

    def slopes(self, arrays: Sequence[Array], delta: Array, scratch: Array) -> tuple[Array, ...]:
        """``dc/da_i = g i (1 - i)``, ``dc/da_f = c_before f (1 - f)``, ``dc/da_g = i (1 - g^2)``,
        ``dh/da_o = tanh(c) o (1 - o)``; returned: ``dh/dc = o (1 - tanh(c)^2)`` and
        ``dc/dc_before = f``.
        """
        ((i, f, g, o), _, tanh_c, h, c_before), (new, rest, part) = arrays, scratch
        multiply, subtract = self.xp.multiply, self.xp.subtract
        blocks = delta.reshape(len(delta), 4, self.hidden_size)
        multiply(i, g, out=new)
        subtract(1, i, out=rest)
        rest *= new
        blocks[:, 0] = rest
        subtract(1, f, out=rest)
        multiply(c_before, f, out=part)  # c - i g would lose the digits of a small f
        part *= rest
        blocks[:, 1] = part
        new *= g
        subtract(i, new, out=part)
        blocks[:, 2] = part
        subtract(1, o, out=rest)
        rest *= h
        blocks[:, 3] = rest
        multiply(h, tanh_c, out=new)
        return subtract(o, new, out=new), f

    def step_backward(
        self, delta: Array, slopes: Sequence[Array], d: Sequence[Array], back: Product
    ) -> None:
        """From ``dL/dh`` and ``dL/dc`` to those of the step before."""
        (d_h, d_c), (dh_dc, f, factors) = d, slopes
        dh_dc *= d_h  # undoes (5), (4)
        d_c += dh_dc
        blocks = factors.reshape(len(delta), 4, self.hidden_size)
        blocks[:, 3] = d_h
        blocks[:, :3] = d_c[:, None]
        delta *= factors  # undoes (5), (2): a_o; undoes (3), (2): a_i, a_f, a_g
        d_c *= f  # undoes (3): c_before
        back(delta, ALL, d_h)  # undoes (1)
