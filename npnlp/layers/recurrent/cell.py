"""The recurrent cell: one step, forward and backward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Unpack

from npnlp.backend import Array
from npnlp.backend.operations import States, Weights
from npnlp.checks import require_whole
from npnlp.layers.base import Layer, LayerOptions, uniform_fan


class RecurrentOptions(LayerOptions, total=False):
    """The keywords that every cell takes: ``suffix`` ends the names of its parameters."""

    suffix: str


class Cell(Layer, ABC):
    """A step ``(u_t, states_{t-1}) -> states_t`` with ``u_t = W_ih x_t + b_ih``, and its backward.

    Parameters, in PyTorch's names and shapes for G gates: ``weight_ih_l0 (G H, D)``,
    ``weight_hh_l0 (G H, H)``, ``bias_ih_l0 (G H,)``, ``bias_hh_l0 (G H,)``, all initialized
    uniformly in ``+-1/sqrt(H)``.
    """

    #: The names of the gates; each has H rows in the weights, in this order.
    gates: ClassVar[tuple[str, ...]]
    #: The names of the states, each ``(b, H)``, that a step passes to the next.
    states: ClassVar[tuple[str, ...]] = ("hidden",)

    def __init__(
        self, input_size: int, hidden_size: int, *, suffix: str = "_l0",
        **options: Unpack[LayerOptions],
    ) -> None:  # fmt: skip
        super().__init__(**options)
        require_whole("input_size", input_size)
        require_whole("hidden_size", hidden_size)
        self.input_size, self.hidden_size, self.suffix = input_size, hidden_size, suffix
        rows = len(self.gates) * hidden_size
        for name, shape in {
            "weight_ih": (rows, input_size), "weight_hh": (rows, hidden_size),
            "bias_ih": (rows,), "bias_hh": (rows,),
        }.items():  # fmt: skip
            self.add_parameter(name + suffix, uniform_fan(shape, hidden_size))

    @abstractmethod
    def step(self, u: Array, before: States) -> tuple[States, tuple[Array, ...]]:
        """One step of b sequences: the new states, and the memory for :meth:`step_backward`.

        ``u (b, G H)``; ``before``, the states of the step before ``(b, H)``. The memory is any
        number of arrays ``(b, H)`` or ``(G, b, H)``.
        """

    @abstractmethod
    def step_backward(
        self, d: States, now: States, before: States, memory: tuple[Array, ...]
    ) -> tuple[Array, States]:
        """Undo :meth:`step`: ``dL/du (b, G H)``, and ``dL/d`` of the states before ``(b, H)``.

        ``d`` are ``dL/d`` of the states ``now``; the gradients of ``W_hh`` and ``b_hh`` are added
        to.
        """

    @property
    def weights(self) -> Weights:
        """The parameters."""
        return Weights(*self.parameters.values())

    @property
    def d_weights(self) -> Weights:
        """Their gradients, to add to."""
        return Weights(*self.grads.values())

    def weight(self, name: str) -> Array:
        """The parameter ``name`` (``weight_hh``, ...) of this layer."""
        return self.parameters[name + self.suffix]

    def rows_of(self, gate: str) -> slice:
        """The rows of ``gate`` in weights and biases."""
        first = self.gates.index(gate) * self.hidden_size
        return slice(first, first + self.hidden_size)

    def by_gate(self, sums: Array) -> list[Array]:
        """``(b, G H)`` as G arrays ``(b, H)``."""
        return self.backend.xp.split(sums, len(self.gates), axis=1)  # type: ignore[no-any-return]

    def side_by_side(self, *gates: Array) -> Array:
        """Undo :meth:`by_gate`."""
        return self.backend.xp.concatenate(gates, axis=1)  # type: ignore[no-any-return]

    def sigmoid(self, a: Array) -> Array:
        """``sigma(a) = 1 / (1 + e^-a)``; ``sigma' = sigma (1 - sigma)``.

        Below 0 as ``e^a / (1 + e^a)``: nothing overflows, and a gate near 0 keeps its digits.
        """
        xp, below = self.backend.xp, a.real < 0
        e = xp.exp(xp.where(below, a, -a))
        return xp.where(below, e, 1) / (1 + e)  # type: ignore[no-any-return]
