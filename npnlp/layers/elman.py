"""The Elman cell: one hidden state, one nonlinearity."""

from __future__ import annotations

from typing import Unpack

from npnlp.backend import Array
from npnlp.errors import InputError
from npnlp.layers.base import LayerOptions
from npnlp.layers.recurrent import Recurrent

NONLINEARITIES = ("tanh", "relu")


class Elman(Recurrent):
    """``h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)`` with ``phi`` tanh or ReLU.

    ``phi'`` in terms of ``h``: tanh ``1 - h^2``; ReLU 1 where ``h > 0``, else 0.
    The Jacobian of a step is ``dh_t/dh_{t-1} = diag(phi'(a_t)) W_hh``: a product of ``T`` of them
    is what makes gradients vanish or explode. Source: Elman, 1990; equal to PyTorch's ``nn.RNN``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: str = "tanh",
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(input_size, hidden_size, **options)
        if nonlinearity not in NONLINEARITIES:
            raise InputError(
                f"nonlinearity {nonlinearity!r} is not known; choose one of "
                f"{', '.join(NONLINEARITIES)}"
            )
        self.nonlinearity = nonlinearity

    def activate(self, a: Array) -> None:
        """See :meth:`Recurrent.activate`."""
        if self.nonlinearity == "tanh":
            self.backend.xp.tanh(a, out=a)
        else:
            self.backend.xp.maximum(a, 0, out=a)

    def derivative(self, h: Array) -> Array:
        """See :meth:`Recurrent.derivative`."""
        if self.nonlinearity == "tanh":
            squared = h * h
            return self.backend.xp.subtract(1, squared, out=squared)  # type: ignore[no-any-return]
        return (h.real > 0).astype(h.dtype)
