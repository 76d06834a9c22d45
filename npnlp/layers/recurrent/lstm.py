"""The LSTM: a second state that a gate carries on unchanged, if it wants to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from npnlp.backend import Array
from npnlp.backend.tuned.blocks import add_each
from npnlp.backend.tuned.products import ALL, Product
from npnlp.layers.recurrent.cell import RecurrentOptions
from npnlp.layers.recurrent.gates import Gated, sigma_of_tanh


class LSTM(Gated):
    """Long short-term memory, with ``a_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh`` in four blocks:

        i, f, o = sigma(a_i), sigma(a_f), sigma(a_o)        g = tanh(a_g)
        c_t = f * c_{t-1} + i * g                           h_t = o * tanh(c_t)

    ``dc_t/dc_{t-1} = diag(f)`` along the cell state: no weight matrix and no ``tanh'`` in it. A
    gate near 1 carries the gradient on for as long as it stays there.
    ``forget_bias``, where given, is what the forget gate's biases add up to at first.
    Source: Hochreiter and Schmidhuber, 1997; forget gate: Gers, Schmidhuber and Cummins, 2000; its
    bias: Jozefowicz, Zaremba and Sutskever, 2015. Equal to PyTorch's ``nn.LSTM``.
    """

    gates = ("input", "forget", "candidate", "output")
    candidate = "candidate"
    states = ("hidden", "cell")
    memory = ("gates", "cell", "tanh_cell", "hidden")
    deltas = 4
    scratch = 3
    factors = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        forget_bias: float | None = None,
        **options: Unpack[RecurrentOptions],
    ) -> None:
        super().__init__(input_size, hidden_size, **options)
        if forget_bias is not None:
            forget = self.block("forget")
            self.weight("bias_ih")[forget] = forget_bias
            self.weight("bias_hh")[forget] = 0

    def kind(self) -> str:
        """See :meth:`Cell.kind`."""
        return "lstm"

    def step(
        self, now: Sequence[Array], before: Sequence[Array], recur: Product, *constants: Any
    ) -> None:
        """See :meth:`Cell.step`."""
        xp = self.backend.xp
        (a, c, tanh_c, h), (_, c_before), p = now, before, recur(before[0])
        add_each(p, a)  # (1)
        xp.tanh(p, out=p)  # (2) with the next lines: i, f, g, o
        sigma_of_tanh(p[:2])
        sigma_of_tanh(p[3])
        a[...] = p
        i, f, g, o = p
        xp.multiply(f, c_before, out=c)  # (3) c = f * c_before + i * g
        xp.multiply(i, g, out=h)
        c += h
        xp.tanh(c, out=tanh_c)  # (4)
        xp.multiply(o, tanh_c, out=h)  # (5) h = o * tanh(c)

    def slopes(self, memory: Sequence[Array], delta: Array, scratch: Array) -> tuple[Array, ...]:
        """See :meth:`Cell.slopes`.

        ``dc/da_i = g i (1 - i)``, ``dc/da_f = c_before f (1 - f)``, ``dc/da_g = i (1 - g^2)``,
        ``dh/da_o = tanh(c) o (1 - o)``; returned: ``dh/dc = o (1 - tanh(c)^2)`` and
        ``dc/dc_before = f``.
        """
        ((i, f, g, o), c, tanh_c, h), (new, rest, part) = memory, scratch
        multiply, subtract = self.backend.xp.multiply, self.backend.xp.subtract
        blocks = delta.reshape(len(delta), 4, self.hidden_size)
        multiply(i, g, out=new)
        subtract(1, i, out=rest)
        rest *= new
        blocks[:, 0] = rest
        subtract(1, f, out=rest)
        subtract(c, new, out=part)  # c - i g is f c_before
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
        """See :meth:`Cell.step_backward`."""
        (d_h, d_c), (dh_dc, f, factors) = d, slopes
        dh_dc *= d_h  # undoes (5), (4)
        d_c += dh_dc
        blocks = factors.reshape(len(delta), 4, self.hidden_size)
        blocks[:, 3] = d_h
        blocks[:, :3] = d_c[:, None]
        delta *= factors  # undoes (5), (2): a_o; undoes (3), (2): a_i, a_f, a_g
        d_c *= f  # undoes (3): c_before
        back(delta, ALL, d_h)  # undoes (1)
