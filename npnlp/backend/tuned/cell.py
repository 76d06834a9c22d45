"""What the tuned loop asks of a cell: the step and its undoing on arrays that are there already.

The mathematics is that of the reference (``layers/recurrent/``), rearranged for NumPy:

- All that does not depend on the step before is done for many steps at once. Of the way back that
  is the cell's partial derivatives, its *slopes*: ``delta = dL/da`` is then one product with
  ``dL/dh`` a step.
- Results are written to arrays that are used again.
- A gate is half of a tanh and a half, ``sigma(a) = (1 + tanh(a / 2)) / 2``. With the weights of
  gates halved once a pass (``scaled``), one tanh serves the gates and the candidate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from npnlp.backend.operations import Array
from npnlp.backend.tuned.blocks import add_each
from npnlp.backend.tuned.products import Operand, Product


class TunedCell(ABC):
    """A cell of ``hidden_size`` units; ``xp`` is the array namespace.

    Arrays of several gates are ``(G, ...)``, so that each gate's numbers lie together.
    """

    #: How many blocks of H rows the weights have, and which of them goes through tanh.
    gates: ClassVar[int]
    candidate: ClassVar[int] = 0
    #: The arrays of all packed rows that a pass makes, each ``(N, H)``. The first begins as ``u``
    #: and is ``(G, N, H)`` where there are several gates. Then those that are states, in the order
    #: of the states; the others are what the layer remembers.
    arrays: ClassVar[tuple[str, ...]] = ("hidden",)
    states: ClassVar[tuple[str, ...]] = ("hidden",)
    memory: ClassVar[tuple[str, ...]] = ()
    #: Columns of ``delta``, in H.
    deltas: ClassVar[int]
    #: How many arrays ``(n, H)`` to compute in :meth:`slopes` is given.
    scratch: ClassVar[int] = 0
    #: How wide, in H, the array is that :meth:`step_backward` is given to compute in, if any.
    factors: ClassVar[int] = 0

    def __init__(self, hidden_size: int, xp: Any) -> None:
        self.hidden_size, self.xp = hidden_size, xp

    def scaled(self, weight: Array) -> Array:
        """A weight or bias with the rows of gates halved; that of a cell without gates as it is."""
        if self.gates == 1:
            return weight
        halves = self.xp.full(len(weight), 0.5, dtype=weight.dtype)
        halves[self.block(self.candidate)] = 1
        return weight * (halves if weight.ndim == 1 else halves[:, None])  # type: ignore[no-any-return]

    def block(self, gate: int) -> slice:
        """The rows of a gate in weights and biases."""
        return slice(gate * self.hidden_size, (gate + 1) * self.hidden_size)

    def bias_in_step(self, b_hh: Array) -> Array | None:
        """What the cell itself adds of ``b_hh``, at every step."""
        return None

    def bias_of_input(self, b_ih: Array, b_hh: Array) -> Array:
        """What is added to ``W_ih x``: both biases, but for what the cell itself adds."""
        return b_ih + b_hh

    def constants(self, b_hh: Array) -> tuple[Any, ...]:
        """What :meth:`step` needs besides, made once a pass."""
        return ()

    @abstractmethod
    def step(
        self, now: Sequence[Array], before: Sequence[Array], recur: Product, *constants: Any
    ) -> None:
        """Fill ``now``, this step's rows of ``arrays``, whose first is ``u_t`` at first.

        ``before`` are the states of the step before; ``recur`` multiplies with ``W_hh``.
        """

    @abstractmethod
    def slopes(self, arrays: Sequence[Array], delta: Array, scratch: Array) -> tuple[Array, ...]:
        """The cell's partial derivatives, for many packed rows at once.

        The derivatives by the cell's sums go to ``delta (n, deltas H)``. What :meth:`step_backward`
        needs besides is returned, and lies in ``scratch`` or in ``arrays``.
        """

    @abstractmethod
    def step_backward(
        self, delta: Array, slopes: Sequence[Array], d: Sequence[Array], back: Product
    ) -> None:
        """Undo :meth:`step`: ``delta`` and, in place, the gradients ``d`` of the states before.

        The last of ``slopes`` is the array to compute in, where the cell has ``factors``.
        """

    def operands(self) -> tuple[Operand, ...]:
        """What the rows of ``W_hh`` were multiplied with."""
        return (Operand(),)

    def of_input(self, delta: Array) -> Array:
        """The columns of ``delta`` that are the gradient of ``u``."""
        return delta

    def of_product(self, delta: Array) -> Array:
        """The columns of ``delta`` that are the gradient of the product with ``W_hh``."""
        return delta


def open_gates(of_product: Array, of_input: Array, xp: Any) -> None:
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
