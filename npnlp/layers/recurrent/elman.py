"""The Elman cell: one hidden state, one nonlinearity."""

from __future__ import annotations

from typing import Unpack

from npnlp.backend import Array
from npnlp.backend.operations import States
from npnlp.errors import require_known
from npnlp.layers.recurrent.cell import RecurrentOptions
from npnlp.layers.recurrent.recurrent import Recurrent

NONLINEARITIES = ("tanh", "relu")


class Elman(Recurrent):
    """``h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)`` with ``phi`` tanh or ReLU.

    ``phi'`` in terms of ``h``: tanh ``1 - h^2``; ReLU 1 where ``h > 0``, else 0.
    The Jacobian of a step is ``dh_t/dh_{t-1} = diag(phi'(a_t)) W_hh``: a product of ``T`` of them
    is what makes gradients vanish or explode. Nothing but h has to be remembered.
    Source: Elman, 1990; equal to PyTorch's ``nn.RNN``.

    >>> elman = Elman(input_size=4, hidden_size=2)
    >>> (hidden, last), cache = elman.forward(x, packing=packing)   # x (N, 4), hidden (N, 2)
    >>> dx, _ = elman.backward((None, d_last), cache)               # adds to elman.grads
    """

    gates = ("hidden",)
    known_as = "elman"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: str = "tanh",
        **options: Unpack[RecurrentOptions],
    ) -> None:
        super().__init__(input_size, hidden_size, **options)
        require_known("nonlinearity", nonlinearity, NONLINEARITIES)
        self.nonlinearity = nonlinearity

    def kind(self) -> str:
        """With the nonlinearity: ``elman_tanh`` or ``elman_relu``."""
        name = super().kind()
        return f"{name}_{self.nonlinearity}" if name else name

    def step(self, u: Array, before: States) -> tuple[States, tuple[Array, ...]]:
        """(1) to (3), undone below from (3) to (1)."""
        (h_before,), xp = before, self.backend.xp
        p = h_before @ self.weight("weight_hh").T + self.weight("bias_hh")  # (1)
        a = u + p  # (2)
        h = xp.tanh(a) if self.nonlinearity == "tanh" else xp.maximum(a, 0)  # (3)
        return (h,), ()

    def step_backward(
        self, d: States, now: States, before: States, memory: tuple[Array, ...]
    ) -> tuple[Array, States]:
        """``d_a`` stands for ``dL/da``, and so on; each line names what it undoes."""
        (d_h,), (h,), (h_before,) = d, now, before
        d_a = d_h * (1 - h * h if self.nonlinearity == "tanh" else h.real > 0)  # undoes (3)
        d_u = d_p = d_a  # undoes (2)
        self.d_weights.w_hh[...] += d_p.T @ h_before  # undoes (1): W_hh
        self.d_weights.b_hh[...] += d_p.sum(axis=0)  # undoes (1): b_hh
        d_h_before = d_p @ self.weight("weight_hh")  # undoes (1): h_before
        return d_u, (d_h_before,)
