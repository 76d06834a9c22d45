"""The Elman cell: one hidden state, one nonlinearity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from npnlp.backend import Array
from npnlp.backend.tuned.products import ALL, Product
from npnlp.errors import require_known
from npnlp.layers.recurrent.cell import RecurrentOptions
from npnlp.layers.recurrent.recurrent import Recurrent

NONLINEARITIES = ("tanh", "relu")


class Elman(Recurrent):
    """``h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)`` with ``phi`` tanh or ReLU.

    ``phi'`` in terms of ``h``: tanh ``1 - h^2``; ReLU 1 where ``h > 0``, else 0.
    The Jacobian of a step is ``dh_t/dh_{t-1} = diag(phi'(a_t)) W_hh``: a product of ``T`` of them
    is what makes gradients vanish or explode. Source: Elman, 1990; equal to PyTorch's ``nn.RNN``.
    """

    gates = ("hidden",)
    memory = ("hidden",)
    deltas = 1

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
        """See :meth:`Cell.kind`."""
        return f"elman_{self.nonlinearity}"

    def constants(self) -> tuple[Any, ...]:
        """See :meth:`Cell.constants`: ``phi``, in place."""
        if self.nonlinearity == "tanh":
            return (self.backend.xp.tanh,)
        maximum = self.backend.xp.maximum
        return (lambda a, out: maximum(a, 0, out=out),)

    def step(
        self, now: Sequence[Array], before: Sequence[Array], recur: Product, *constants: Any
    ) -> None:
        """See :meth:`Cell.step`."""
        (a,), (h,), (phi,) = now, before, constants
        a += recur(h)  # (1) a = u + W_hh h
        phi(a, a)  # (2) phi(a), where a was

    def slopes(self, memory: Sequence[Array], delta: Array, scratch: Array) -> tuple[Array, ...]:
        """See :meth:`Cell.slopes`: ``phi'(a)``."""
        (h,) = memory
        if self.nonlinearity == "tanh":
            self.backend.xp.multiply(h, h, out=delta)
            self.backend.xp.subtract(1, delta, out=delta)
        else:
            delta[...] = 0  # the imaginary parts, where there are any
            self.backend.xp.sign(h.real, out=delta.real)
        return ()

    def step_backward(
        self, delta: Array, slopes: Sequence[Array], d: Sequence[Array], back: Product
    ) -> None:
        """See :meth:`Cell.step_backward`."""
        (d_h,) = d
        delta *= d_h  # undoes (2)
        back(delta, ALL, d_h)  # undoes (1)
