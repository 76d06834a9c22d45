"""The cache of a recurrent layer's forward pass, and the trace of its backward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from npnlp.backend import Array
from npnlp.backend.operations import Rows, States
from npnlp.layers.packing import Packing
from npnlp.layers.recurrent.cell import Cell
from npnlp.summary import summarized


@summarized
class Piece(NamedTuple):
    """Some steps: their packed ``rows``, the ``packing`` of these alone, and its initial states.

    ``before`` are the rows of the initial states, or None for the first piece.
    """

    rows: slice
    packing: Packing
    before: slice | None


@summarized
class RecurrentCache(NamedTuple):
    """What backpropagation through time has to remember.

    ``x (N, D)``, or the table to look rows up in; ``states``, all of them ``(N, H)`` each, and
    ``memory``, the arrays that the cell names in its docstring, a row for each packed row;
    ``initial``, the first states ``(B, H)``, longest sequence first, or None for zeros.
    ``kind``, which cell it is of: :meth:`Recurrent.kind`, or the name of its class. Where there are
    ``pieces``, there is no memory.
    """

    x: Rows
    states: States
    memory: tuple[Array, ...]
    initial: States | None
    packing: Packing
    kind: str
    pieces: tuple[Piece, ...] = ()

    @property
    def hidden(self) -> Array:
        """All hidden states ``(N, H)``."""
        return self.states[0]

    @property
    def nbytes(self) -> int:
        """Bytes that forward allocated for backward, without the caller's ``x`` and ``packing``."""
        return sum(a.nbytes for a in (*self.states, *self.memory, *(self.initial or ())))


@summarized
@dataclass(frozen=True)
class RecurrentTrace:
    """What a probe sees of a backward pass, a row for each packed row.

    ``layer`` and the ``cache`` of its forward pass; ``d_states``, the total ``dL/dh_t (N, H)`` of
    each state; ``delta (N, G H)``, ``dL/du`` of the projected input; ``from_above (N, H)``, the
    part of ``dL/dh_t`` from the layer above, or None.
    """

    layer: Cell
    cache: RecurrentCache
    d_states: States
    delta: Array
    from_above: Array | None

    @property
    def d_hidden(self) -> Array:
        """``dL/dh_t (N, H)``."""
        return self.d_states[0]


Probe = Callable[[RecurrentTrace], None]
