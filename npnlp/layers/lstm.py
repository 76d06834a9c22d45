"""The LSTM: a second state that a gate carries on unchanged, if it wants to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from npnlp.backend import Array
from npnlp.layers.cell import RecurrentOptions
from npnlp.layers.gates import Gated
from npnlp.layers.products import ALL, Product


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
        (a, c, tanh_c, h), (h_before, c_before), (factor, term) = now, before, constants
        a += recur(h_before)  # (1)
        xp.tanh(a, out=a)  # (2) with the next two lines: i, f, g, o
        a *= factor
        a += term
        i, f, g, o = a
        xp.multiply(f, c_before, out=c)  # (3) c = f * c_before + i * g
        xp.multiply(i, g, out=h)
        c += h
        xp.tanh(c, out=tanh_c)  # (4)
        xp.multiply(o, tanh_c, out=h)  # (5) h = o * tanh(c)

    def slopes(self, memory: Sequence[Array], delta: Array) -> tuple[Array, ...]:
        """See :meth:`Cell.slopes`.

        ``dc/da_i = g i (1 - i)``, ``dc/da_f = c_before f (1 - f)``, ``dc/da_g = i (1 - g^2)``,
        ``dh/da_o = tanh(c) o (1 - o)``; returned: ``dh/dc = o (1 - tanh(c)^2)`` and
        ``dc/dc_before = f``.
        """
        xp, ((i, f, g, o), c, tanh_c, h) = self.backend.xp, memory
        blocks = delta.reshape(len(delta), 4, self.hidden_size)
        multiply, subtract, new, rest = xp.multiply, xp.subtract, i * g, 1 - i
        multiply(new, rest, out=blocks[:, 0])
        subtract(1, f, out=rest)
        multiply(c - new, rest, out=blocks[:, 1])  # c - i g is f c_before
        new *= g
        subtract(i, new, out=blocks[:, 2])
        subtract(1, o, out=rest)
        multiply(h, rest, out=blocks[:, 3])
        multiply(h, tanh_c, out=new)
        return subtract(o, new, out=new), f

    def step_backward(
        self, delta: Array, slopes: Sequence[Array], d: Sequence[Array], back: Product
    ) -> None:
        """See :meth:`Cell.step_backward`."""
        (d_h, d_c), (dh_dc, f) = d, slopes
        blocks = delta.reshape(len(delta), 4, self.hidden_size)
        dh_dc *= d_h  # undoes (5), (4)
        d_c += dh_dc
        blocks[:, 3] *= d_h  # undoes (5), (2): a_o
        blocks[:, :3] *= d_c[:, None]  # undoes (3), (2): a_i, a_f, a_g
        d_c *= f  # undoes (3): c_before
        back(delta, ALL, d_h)  # undoes (1)
