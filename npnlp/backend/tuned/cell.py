"""The cells of the tuned loop: a step, forward and backward, on preallocated arrays.

The equations are those of the reference (``layers/recurrent/``), rearranged for NumPy:

- What does not depend on the step before is computed for many steps at a time. In the backward pass
  that is the cell's partial derivatives, its *slopes*: a step then multiplies them by ``dL/dh``
  elementwise to get ``delta = dL/da``.
- Results are written to reused arrays. NumPy is twice as slow where an operand is a stack of parts
  of larger arrays, so that sums are made in arrays of a step, and then copied.
- ``sigma(a) = 1 / (1 + e^-a)``, where ``e^-a`` may overflow to infinity: sigma is 0 then. The
  weights of gates are negated once a pass (``scaled``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from npnlp.backend.operations import Array
from npnlp.backend.tuned.products import Operand, Product


class TunedCell(ABC):
    """A cell of ``hidden_size`` units; ``xp`` is the array namespace.

    Arrays of several gates are ``(G, ...)``, so that each gate is contiguous.
    """

    #: The number of blocks of H rows in the weights, and the block of the candidate, with tanh.
    gates: ClassVar[int]
    candidate: ClassVar[int] = 0
    #: The arrays of all packed rows that a pass fills, each ``(N, H)``. The first holds ``u`` on
    #: entry, and is ``(G, N, H)`` for several gates. ``states`` and ``memory`` name those that a
    #: forward pass returns.
    arrays: ClassVar[tuple[str, ...]] = ("hidden",)
    states: ClassVar[tuple[str, ...]] = ("hidden",)
    memory: ClassVar[tuple[str, ...]] = ()
    #: Columns of ``delta``, in multiples of H.
    deltas: ClassVar[int]
    #: The number of scratch arrays ``(n, H)`` of :meth:`slopes`.
    scratch: ClassVar[int] = 0
    #: Columns of the scratch array of :meth:`step_backward`, in multiples of H; 0 for none.
    factors: ClassVar[int] = 0

    def __init__(self, hidden_size: int, xp: Any) -> None:
        self.hidden_size, self.xp = hidden_size, xp

    def scaled(self, weight: Array) -> Array:
        """A weight or bias with the rows of gates negated; unchanged for a cell without gates."""
        if self.gates == 1:
            return weight
        scaled: Array = -weight
        scaled[self.block(self.candidate)] *= -1
        return scaled

    def arranged(self, weight: Array) -> Array:
        """:meth:`scaled`, with the candidate's rows last: that is how :meth:`step` has its sums."""
        return self.scaled(weight)

    def block(self, gate: int) -> slice:
        """The rows of a gate in weights and biases."""
        return slice(gate * self.hidden_size, (gate + 1) * self.hidden_size)

    def bias_in_step(self, b_hh: Array) -> Array | None:
        """The part of ``b_hh`` that is added at every step, or None."""
        return None

    def bias_of_input(self, b_ih: Array, b_hh: Array) -> Array:
        """The bias of ``W_ih x``: both biases, without :meth:`bias_in_step`."""
        return b_ih + b_hh

    def constants(self, b_hh: Array, batch: int) -> tuple[Any, ...]:
        """Further arguments of :meth:`step`, computed once a pass: here a 1 of the array's type."""
        return (self.xp.ones((), dtype=b_hh.dtype),)

    @abstractmethod
    def step(
        self, now: Sequence[Array], u: Array, before: Sequence[Array], recur: Product,
        *constants: Any,
    ) -> None:  # fmt: skip
        """Fill ``now``, this step's rows of ``arrays``, from ``u_t``, which may be their first.

        ``before`` are the states of the step before; ``recur`` multiplies with ``W_hh``. The gates
        of ``u`` and of the product are in the order of :meth:`arranged`.
        """

    @abstractmethod
    def slopes(self, arrays: Sequence[Array], delta: Array, scratch: Array) -> tuple[Array, ...]:
        """The cell's partial derivatives, for many packed rows at once.

        A cell with gates has the last of its ``states`` in the step before behind its ``arrays``.
        The derivatives by the pre-activations are written to ``delta (n, deltas H)``. The others
        that :meth:`step_backward` needs are returned, as views of ``scratch`` or ``arrays``.
        """

    @abstractmethod
    def step_backward(
        self, delta: Array, slopes: Sequence[Array], d: Sequence[Array], back: Product
    ) -> None:
        """Undo :meth:`step`: ``delta`` and, in place, the gradients ``d`` of the states before.

        The last of ``slopes`` is the scratch array, where the cell has ``factors``.
        """

    def operands(self) -> tuple[Operand, ...]:
        """The arrays that the rows of ``W_hh`` are multiplied with."""
        return (Operand(),)

    def of_input(self, delta: Array) -> Array:
        """The columns of ``delta`` that are the gradient of ``u``."""
        return delta

    def of_product(self, delta: Array) -> Array:
        """The columns of ``delta`` that are the gradient of the product with ``W_hh``."""
        return delta


def sigma_of_negated(minus_a: Array, one: Array, xp: Any) -> None:
    """``1 / (1 + e^-a)`` in place. NumPy is slower with a Python 1."""
    xp.exp(minus_a, out=minus_a)
    minus_a += one
    xp.divide(one, minus_a, out=minus_a)
