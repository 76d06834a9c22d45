"""The LSTM: a second state, which the forget gate can carry on unchanged."""

from __future__ import annotations

from typing import Unpack

from npnlp.backend import Array
from npnlp.backend.operations import States
from npnlp.layers.recurrent.cell import RecurrentOptions
from npnlp.layers.recurrent.recurrent import Recurrent


class LSTM(Recurrent):
    """Long short-term memory, with ``a_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh`` in four blocks:

        i, f, o = sigma(a_i), sigma(a_f), sigma(a_o)        g = tanh(a_g)
        c_t = f * c_{t-1} + i * g                           h_t = o * tanh(c_t)

    ``dc_t/dc_{t-1} = diag(f)`` along the cell state: no weight matrix and no ``tanh'`` in it. A
    gate near 1 carries the gradient on for as long as it stays there.
    ``forget_bias``, if given, is the initial sum of the forget gate's two biases.
    Remembered: ``gates (4, N, H)``, which are i, f, g and o, and ``tanh(c) (N, H)``.
    Source: Hochreiter and Schmidhuber, 1997; forget gate: Gers, Schmidhuber and Cummins, 2000; its
    bias: Jozefowicz, Zaremba and Sutskever, 2015. Equal to PyTorch's ``nn.LSTM``.

    >>> lstm = LSTM(input_size=4, hidden_size=2)
    >>> (hidden, h_n, c_n), cache = lstm.forward(x, packing=packing)    # x (N, 4), hidden (N, 2)
    >>> dx, _, _ = lstm.backward((None, d_h_n, None), cache)            # adds to lstm.grads
    """

    gates = ("input", "forget", "candidate", "output")
    states = ("hidden", "cell")
    known_as = "lstm"

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
            forget = self.rows_of("forget")
            self.weight("bias_ih")[forget] = forget_bias
            self.weight("bias_hh")[forget] = 0

    def step(self, u: Array, before: States) -> tuple[States, tuple[Array, ...]]:
        """(1) to (4), undone below from (4) to (1)."""
        xp, (h_before, c_before) = self.backend.xp, before
        a = u + h_before @ self.weight("weight_hh").T + self.weight("bias_hh")  # (1)
        a_i, a_f, a_g, a_o = self.by_gate(a)
        i, f, g, o = self.sigmoid(a_i), self.sigmoid(a_f), xp.tanh(a_g), self.sigmoid(a_o)  # (2)
        c = f * c_before + i * g  # (3)
        tanh_c = xp.tanh(c)
        h = o * tanh_c  # (4)
        return (h, c), (xp.stack([i, f, g, o]), tanh_c)

    def step_backward(
        self, d: States, now: States, before: States, memory: tuple[Array, ...]
    ) -> tuple[Array, States]:
        """``d_a`` stands for ``dL/da``, and so on; each line names what it undoes."""
        (d_h, d_c), (h_before, c_before), ((i, f, g, o), tanh_c) = d, before, memory
        d_o = d_h * tanh_c  # undoes (4): o
        d_c = d_c + d_h * o * (1 - tanh_c * tanh_c)  # undoes (4): tanh(c)
        d_i, d_f, d_g, d_c_before = d_c * g, d_c * c_before, d_c * i, d_c * f  # undoes (3)
        d_a = self.side_by_side(
            d_i * i * (1 - i), d_f * f * (1 - f), d_g * (1 - g * g), d_o * o * (1 - o)
        )  # undoes (2)
        self.d_weights.w_hh[...] += d_a.T @ h_before  # undoes (1): W_hh
        self.d_weights.b_hh[...] += d_a.sum(axis=0)  # undoes (1): b_hh
        d_h_before = d_a @ self.weight("weight_hh")  # undoes (1): h_before
        return d_a, (d_h_before, d_c_before)
