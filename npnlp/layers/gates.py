"""Gates: units between 0 and 1 that say how much passes.

    sigma(a) = 1 / (1 + e^-a) = (1 + tanh(a / 2)) / 2,    sigma' = sigma (1 - sigma)

A gated cell has sums of two kinds, in one array ``(G, b, H)``: those of gates, and those of a
candidate, which goes through tanh. With the weights of the gates halved (``scaled``) one tanh
serves all, and a product and a sum with a number a gate turn it into ``sigma``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from npnlp.backend import Array
from npnlp.layers.recurrent import Recurrent


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

    def constants(self) -> tuple[Any, ...]:
        """See :meth:`Cell.constants`: the factor and the term after tanh, ``(G, 1, 1)``."""
        halves = self.halves()[:: self.hidden_size].reshape(-1, 1, 1)
        return halves, 1 - halves
