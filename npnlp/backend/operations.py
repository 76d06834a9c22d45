"""The interface of fast code: operations that a backend may implement.

A layer asks its backend once for its operation (:meth:`Backend.recurrent_passes`,
:meth:`Backend.linear_passes`, ...). The answer is an object of a type below, or None: then the
layer's own code runs. That is the reference, which every such object has to equal.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.random import Random
from npnlp.summary import summarized

#: An array of the backend in use. CuPy's arrays have the same methods as NumPy's.
Array: TypeAlias = NDArray[Any]
#: The states of a cell, one array each: h, for the LSTM h and c.
States: TypeAlias = tuple[Array, ...]


@summarized
@dataclass(frozen=True, eq=False)
class LookedUp:
    """The rows ``table[tokens]``, not yet looked up: ``table (V, D)``, ``tokens (N,)``.

    A layer that begins with a matrix product multiplies the table, V rows instead of N, and then
    looks up the results. The numbers are the same, since the product acts on each row separately.
    The gradient of such an input is that of its table.
    """

    table: Array
    tokens: Array

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the table."""
        return self.table.dtype


#: The input of a layer: rows ``(N, D)``, or a table of them with tokens.
Rows: TypeAlias = "Array | LookedUp"


@summarized
class Weights(NamedTuple):
    """The parameters of a recurrent layer with G gates, or their gradients.

    ``w_ih (G H, D)``, ``w_hh (G H, H)``, ``b_ih`` and ``b_hh (G H,)``.
    """

    w_ih: Array
    w_hh: Array
    b_ih: Array
    b_hh: Array


class PackedSteps(Protocol):
    """The layout of packed sequences; see :class:`npnlp.layers.Packing`."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """``(B,)``: the lengths of the sequences, not in the order of rows."""

    @property
    def runs(self) -> NDArray[np.int32]:
        """``(2, T)``: ``offsets`` and ``batch_sizes``."""

    @property
    def previous_rows(self) -> Array:
        """``(N - B,)``: the row before each row of steps 1 to T - 1."""

    @property
    def rows(self) -> int:
        """``N``."""

    @property
    def offsets(self) -> list[int]:
        """``(T,)``: the first row of each step."""

    @property
    def batch_sizes(self) -> list[int]:
        """``(T,)``: how many rows each step has."""

    @property
    def on_device(self) -> tuple[Array, Array, int, int]:
        """``offsets`` and ``batch_sizes`` as int32 on the backend, B and T."""


@summarized
class Forward(NamedTuple):
    """The results of a forward pass through time, and all that its backward pass needs.

    ``states``, each ``(N, H)``, the hidden one first; ``memory``, the arrays that the cell names
    in its docstring, ``(N, H)`` or ``(G, N, H)``.
    """

    states: States
    memory: tuple[Array, ...]


@summarized
class Backward(NamedTuple):
    """The results of a backward pass through time, which also adds to the gradients.

    ``d_x``, of the rows or of the table; ``d_initial``, each ``(B, H)``. If ``traced``:
    ``d_states``, ``dL/d`` of each state at every row ``(N, H)``, and ``d_u (N, G H)``, ``dL/du`` of
    the projected input.
    """

    d_x: Array
    d_initial: States
    d_states: States | None
    d_u: Array | None


class RecurrentPasses(Protocol):
    """Both passes of a recurrent layer; see :mod:`npnlp.layers.recurrent.through_time`."""

    def forward(
        self, x: Rows, weights: Weights, initial: States | None, steps: PackedSteps
    ) -> Forward:
        """All states of packed sequences.

        ``initial``, the first states ``(B, H)``, longest sequence first; None for zeros.
        """

    def backward(
        self, d_hidden: Array | None, d_last: States, found: Forward, x: Rows, weights: Weights,
        grads: Weights, initial: States | None, steps: PackedSteps, *, traced: bool,
    ) -> Backward:  # fmt: skip
        """Undo :meth:`forward`; ``grads`` are added to.

        ``d_hidden (N, H)``, ``dL/dh`` of every row from the layer above, or None;
        ``d_last``, ``dL/d`` of each sequence's last states ``(B, H)``, longest first: the pass
        may write to them. ``traced`` asks for ``d_states`` and ``d_u``.
        """


class LinearPasses(Protocol):
    """Both passes of :class:`npnlp.layers.Linear`."""

    def forward(self, x: Array, weight: Array, bias: Array) -> Array:
        """``x W^T + b``: ``(N, n)`` of ``x (N, D)``, ``weight (n, D)``, ``bias (n,)``."""

    def backward(self, dy: Array, x: Array, weight: Array, d_weight: Array, d_bias: Array) -> Array:
        """``dL/dx = dy W``; ``dy^T x`` and ``sum_n dy_n`` are added to the gradients."""


class CrossEntropyPasses(Protocol):
    """Both passes of softmax and cross-entropy, row by row; see ``layers/loss.py``."""

    def forward(self, logits: Array, targets: Array) -> tuple[Array, Array]:
        """``softmax(z) (B, C)`` and the losses ``(B,)`` of ``logits (B, C)``, ``targets (B,)``."""

    def backward(self, d_losses: Array | float, probabilities: Array, targets: Array) -> Array:
        """``dL/dlogits`` from ``dL/dlosses``, ``(B,)`` or one number for all rows."""


class BagPasses(Protocol):
    """The rows of a weight that each sequence has, summed and scaled: both passes.

    Of M places, ``rows (M,)`` are rows of the weight, ``sequences (M,)`` whose they are, and
    ``known (M,)`` which of them count.
    """

    def forward(
        self, weight: Array, rows: Array, known: Array, sequences: Array, batch: int
    ) -> tuple[Array, Array]:
        """``y (B, F)``, and ``scales (B, 1)``: one over the root of the number of rows, or 1."""

    def backward(
        self, dy: Array, scales: Array, rows: Array, known: Array, sequences: Array,
        d_weight: Array,
    ) -> None:  # fmt: skip
        """Add ``dL/dweight`` to ``d_weight``."""


@summarized
class Learned(NamedTuple):
    """The results of a classifier's head: ``logits (B, C)``, ``losses (B,)`` and their sum.

    Also how many rows are ``correct``, and ``d_h (B, F)``, the gradient of its input.
    """

    logits: Array
    losses: Array
    loss_sum: Array
    correct: Any
    d_h: Array


class ClassifierHead(Protocol):
    """Dropout, linear layer, ReLU, dropout, linear layer and mean cross-entropy: both passes."""

    def __call__(
        self, h: Array, targets: Array, parameters: tuple[Array, ...], grads: tuple[Array, ...],
        streams: tuple[Random, Random], p: float,
    ) -> Learned:  # fmt: skip
        """``h (B, F)``, ``targets (B,)``; weight and bias of each layer, and their gradients,
        which are added to; the stream of each dropout, and its probability.
        """


class AdamNumbers(NamedTuple):
    """The scalars of a step of Adam; ``rate`` and ``eps`` include the bias corrections.

    With ``m^ = a m`` and ``v^ = b^2 v``, the change is ``(eta a / b) m / (sqrt(v) + eps / b)``.
    """

    b1: float
    b2: float
    rate: float
    eps: float


#: A step of Adam on flat buffers, in place: ``step(values, grads, (m, v), scratch, numbers)``, with
#: ``scratch`` a buffer of the same size.
AdamStep: TypeAlias = Callable[[Array, Array, tuple[Array, Array], Array, AdamNumbers], None]


@summarized
class Missed(NamedTuple):
    """What R rows of a table have missed, a number for each, as (2) and (3) of training/lazy.py.

    ``w <- kept w - shift m / (sqrt(v) + eps)``, ``m <- first m``, ``v <- second v``.
    """

    kept: Array
    shift: Array
    eps: Array
    first: Array
    second: Array


class RowAdam(Protocol):
    """Adam on ``rows (R,)``, none twice, of a ``table`` (w, m, v), each ``(V, D)``, in place."""

    def catch_up(self, table: tuple[Array, Array, Array], rows: Array, missed: Missed) -> None:
        """Take the steps that the rows have missed."""

    def step(
        self, table: tuple[Array, Array, Array], grads: Array, rows: Array, kept: float,
        numbers: AdamNumbers,
    ) -> None:  # fmt: skip
        """``w <- kept w``, and a step with the gradient ``grads (V, D)``."""


class WorkGraphs(Protocol):
    """Graphs that capture device work and launch it (``cuda/graphs.py``)."""

    def in_use(self) -> AbstractContextManager[None]:
        """Launches inside go to the graphs' stream."""

    def run(self, key: Hashable, work: Callable[[], None]) -> None:
        """Run ``work``, which may only launch kernels, the same ones for the same key."""

    def __len__(self) -> int: ...
