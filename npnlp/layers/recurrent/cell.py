"""What a recurrent cell is: elementwise mathematics, and the names of what it remembers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

from npnlp.backend import Array
from npnlp.backend.tuned.products import Operand, Product
from npnlp.layers.base import Layer, LayerOptions, uniform_fan


class RecurrentOptions(LayerOptions, total=False):
    """The keywords that every cell takes: ``suffix`` ends the names of its parameters."""

    suffix: str


class Cell(Layer, ABC):
    """What :class:`npnlp.layers.recurrent.recurrent.Recurrent` asks of a cell.

    Parameters, in PyTorch's names and shapes for G gates: ``weight_ih_l0 (G H, D)``,
    ``weight_hh_l0 (G H, H)``, ``bias_ih_l0 (G H,)``, ``bias_hh_l0 (G H,)``, all uniform in
    ``+-1/sqrt(H)`` at first.
    """

    #: The blocks of H rows in the weights, in their order.
    gates: ClassVar[tuple[str, ...]]
    #: What a step hands on to the next, each ``(b, H)``.
    states: ClassVar[tuple[str, ...]] = ("hidden",)
    #: What forward keeps of every packed row, ``(N, H)`` each. The first begins as ``u`` and is
    #: ``(G, N, H)`` where there are several gates: each gate's numbers then lie together.
    memory: ClassVar[tuple[str, ...]]
    #: Columns of ``delta``, in H.
    deltas: ClassVar[int]
    #: How many arrays ``(n, H)`` to compute in :meth:`slopes` is given.
    scratch: ClassVar[int] = 0
    #: How wide, in H, the array is that :meth:`step_backward` is given to compute in, if any.
    factors: ClassVar[int] = 0

    def __init__(
        self, input_size: int, hidden_size: int, *, suffix: str = "_l0",
        **options: Unpack[LayerOptions],
    ) -> None:  # fmt: skip
        super().__init__(**options)
        self.input_size, self.hidden_size, self.suffix = input_size, hidden_size, suffix
        rows = len(self.gates) * hidden_size
        for name, shape in {
            "weight_ih": (rows, input_size), "weight_hh": (rows, hidden_size),
            "bias_ih": (rows,), "bias_hh": (rows,),
        }.items():  # fmt: skip
            self.add_parameter(name + suffix, uniform_fan(shape, hidden_size))

    def weight(self, name: str) -> Array:
        """The parameter ``name`` (``weight_hh``, ...) of this layer."""
        return self.parameters[name + self.suffix]

    def constants(self) -> tuple[Any, ...]:
        """What :meth:`step` needs besides, made once a pass."""
        return ()

    def scaled(self, weight: Array) -> Array:
        """A weight or bias as the sums of forward use it; see ``layers/recurrent/gates.py``."""
        return weight

    def kind(self) -> str:
        """What the fused kernels of a device call this cell; empty where they have none."""
        return ""

    def bias_in_step(self) -> Array | None:
        """What the cell adds itself, at every step, of ``b_hh``."""
        return None

    def bias_of_loop(self) -> Array:
        """``b_hh``, but for what the cell adds itself, at every step."""
        return self.weight("bias_hh")

    def bias_of_input(self) -> Array:
        """What is added to ``W_ih x``: both biases, but for what the cell adds itself."""
        return self.weight("bias_ih") + self.bias_of_loop()

    @abstractmethod
    def step(
        self, now: Sequence[Array], before: Sequence[Array], recur: Product, *constants: Any
    ) -> None:
        """(2) and (3) of one step: fill ``now``, whose first is ``u_t`` at first.

        ``now`` are this step's rows of the memory, ``before`` the states of the step before.
        """

    @abstractmethod
    def slopes(self, memory: Sequence[Array], delta: Array, scratch: Array) -> tuple[Array, ...]:
        """The cell's partial derivatives, for many packed rows at once.

        Those that become ``delta (n, deltas H)`` by a product with the gradient of a state go
        there; what :meth:`step_backward` needs besides is returned, in ``scratch`` or in memory.
        """

    def room_for_slopes(self, rows: int, dtype: Any) -> Array:
        """``(scratch, rows, H)`` for :meth:`slopes` of so many rows to compute in."""
        return self.backend.xp.empty((self.scratch, rows, self.hidden_size), dtype=dtype)  # type: ignore[no-any-return]

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
        """The columns of ``delta`` (or of its sums) that are the gradient of ``u``."""
        return delta

    def of_product(self, delta: Array) -> Array:
        """The columns of ``delta`` (or of its sums) that are the gradient of ``p``."""
        return delta
