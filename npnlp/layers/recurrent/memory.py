"""What a recurrent layer remembers of a forward pass, and what it shows of a backward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from npnlp.backend import Array
from npnlp.layers.packing import Packing
from npnlp.summary import summarized

if TYPE_CHECKING:
    from npnlp.layers.recurrent.recurrent import Recurrent


@summarized
class RecurrentCache(NamedTuple):
    """What backpropagation through time has to remember.

    ``x (N, D)``, or the table ``(V, D)`` with ``tokens (N,)``; ``memory``, the cell's own arrays of
    all packed rows, ``hidden (N, H)`` among them; ``initial``, the first states ``(B, H)`` in
    sorted order, or None for zeros; ``packing``.
    """

    x: Array
    tokens: Array | None
    memory: dict[str, Array]
    initial: tuple[Array, ...] | None
    packing: Packing

    @property
    def hidden(self) -> Array:
        """All hidden states ``(N, H)``."""
        return self.memory["hidden"]

    @property
    def nbytes(self) -> int:
        """Bytes that forward made and holds for backward.

        What the caller gave and holds anyway (``x``, ``tokens``, ``packing``) is not counted.
        """
        return sum(array.nbytes for array in (*self.memory.values(), *(self.initial or ())))


@summarized
@dataclass(frozen=True)
class RecurrentTrace:
    """What a probe sees of a backward pass, a row for each packed row.

    ``layer`` and the ``cache`` of its forward pass; ``d_states``, of each state ``dL/dh_t (N, H)``
    in all; ``delta (N, deltas H)``, the gradient of the cell's sums; ``from_above (N, H)``, the
    part of ``dL/dh_t`` that the layer above gave at that step, or None where it gave none.
    """

    layer: Recurrent
    cache: RecurrentCache
    d_states: tuple[Array, ...]
    delta: Array
    from_above: Array | None

    @property
    def d_hidden(self) -> Array:
        """``dL/dh_t (N, H)``."""
        return self.d_states[0]


Probe = Callable[[RecurrentTrace], None]
