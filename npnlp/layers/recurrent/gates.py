"""Gates: units between 0 and 1 that say how much passes.

    sigma(a) = 1 / (1 + e^-a) = (1 + tanh(a / 2)) / 2,    sigma' = sigma (1 - sigma)

A gated cell has sums of two kinds, in one array ``(G, b, H)``: those of gates, and those of a
candidate, which goes through tanh. With the weights of the gates halved (``scaled``) one tanh
serves all, and half of it and a half are the gates' ``sigma``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from npnlp.backend import Array
from npnlp.backend.tuned.blocks import add_each
from npnlp.layers.recurrent.recurrent import Recurrent


class Gated(Recurrent):
    """A recurrent layer with gates; ``candidate`` is the block of rows that goes through tanh."""

    candidate: ClassVar[str]

    def halves(self) -> Array:
        """1/2 for each row of a gate, 1 for each of the candidate: ``(G H,)``."""
        halves = self.backend.zeros((len(self.gates) * self.hidden_size,), self.dtype)
        halves += 0.5
        halves[self.block(self.candidate)] = 1
        return halves

    def block(self, gate: str) -> slice:
        """The rows of ``gate`` in weights and biases."""
        first = self.gates.index(gate) * self.hidden_size
        return slice(first, first + self.hidden_size)

    def scaled(self, weight: Array) -> Array:
        """See :meth:`Cell.scaled`: the rows of gates halved."""
        halves = self.halves()
        return weight * (halves if weight.ndim == 1 else halves[:, None])

    @staticmethod
    def open(of_product: Array, of_input: Array, xp: Any) -> None:
        """``sigma`` of the sum of the two, each ``(gates, b, H)``, where ``of_input`` was.

        ``of_product`` lies in one piece, so that is where it is computed.
        """
        add_each(of_product, of_input)
        xp.tanh(of_product, out=of_product)
        sigma_of_tanh(of_product)
        of_input[...] = of_product


def sigma_of_tanh(gates: Array) -> None:
    """``sigma(a)`` where ``tanh(a / 2)`` is, in place."""
    gates *= 0.5
    gates += 0.5
