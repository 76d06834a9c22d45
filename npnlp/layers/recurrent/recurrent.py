"""A recurrent layer on packed sequences: its interface, and the choice of its passes.

The equations are in ``through_time.py`` (the loop) and in the cells. A backend that has its own
passes for a cell of this library computes them instead.
"""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

from npnlp.backend import Array
from npnlp.backend.operations import Forward, LookedUp, RecurrentPasses, Rows
from npnlp.errors import InputError
from npnlp.layers.arguments import require_cache, require_outputs
from npnlp.layers.packing import Packing
from npnlp.layers.recurrent.cell import Cell
from npnlp.layers.recurrent.memory import Piece, Probe, RecurrentCache, RecurrentTrace
from npnlp.layers.recurrent.pieces import PieceByPiece, pieces_of
from npnlp.layers.recurrent.through_time import ThroughTime


@cache
def _known_as(cell: type[Cell]) -> str:
    """``known_as`` of the cell of this library that ``cell`` is, or inherits from.

    Empty where it overrides a public name of that cell; a new ``__init__`` is allowed.
    """
    for family in cell.__mro__:
        if "known_as" in vars(family):
            public = [name for name in (*vars(family), *vars(Cell)) if not name.startswith("_")]
            same = all(getattr(cell, name) is getattr(family, name) for name in public)
            return str(vars(family)["known_as"]) if same else ""
    return ""


class Recurrent(Cell):
    """A recurrent layer; subclasses are the cells.

    A cell of your own needs only ``gates``, :meth:`Cell.step` and :meth:`Cell.step_backward`. It
    runs on every backend, and so does a subclass of a cell that changes its equations.
    """

    #: The ``kind`` under which backends know a cell of this library.
    known_as: ClassVar[str]

    def forward(
        self, x: Rows, *initial: Array | None, packing: Packing, whole: bool = True
    ) -> tuple[tuple[Array, ...], RecurrentCache]:
        """All hidden states, and each sequence's last states: ``((N, H), (B, H), ...)``.

        ``x (N, D)`` is packed by ``packing``, or is a :class:`LookedUp` of N tokens;
        ``initial``, the first states ``(B, H)``, are in the caller's order, zero if not given.
        Without ``whole``, a batch with a long tail (:mod:`npnlp.layers.recurrent.pieces`) leaves no
        memory: backward computes it again.
        Raises :class:`InputError` for a wrong number of rows or of states.
        """
        given = [packing.sort(state) for state in initial if state is not None]
        first, kind = tuple(given) or None, self.kind()
        pieces = () if whole else pieces_of(packing)
        passes = self._passes(x, kind, pieces)
        states, memory = passes.forward(x, self.weights, first, packing)
        last = (state.take(packing.last_rows, axis=0) for state in states)
        kind = kind or type(self).__name__
        return (states[0], *last), RecurrentCache(x, states, memory, first, packing, kind, pieces)

    def backward(
        self, dy: tuple[Array | None, ...], cache: RecurrentCache, probe: Probe | None = None
    ) -> tuple[Any, ...]:
        """``(dL/dx, dL/dh0, ...)`` from ``dy``, the gradients of what forward returned.

        Any part of ``dy`` may be None for an output that was not used; the gradients of initial
        states are None where forward was given none. ``dL/dx`` of a :class:`LookedUp` is that of
        its table. ``probe`` is called with the gradients of all steps.
        """
        d_hidden, x, packing = dy[0], cache.x, cache.packing
        shape, dtype = (len(packing.lengths), self.hidden_size), cache.hidden.dtype
        d_last = tuple(
            self.backend.zeros(shape, dtype) if given is None else packing.sort(given)
            for given in (*dy[1:], *(None for _ in self.states[len(dy) - 1 :]))
        )
        if probe is not None and cache.pieces:  # it is shown all steps
            again = self._passes(x, self.kind()).forward(x, self.weights, cache.initial, packing)
            cache = cache._replace(memory=again.memory, pieces=())
        passes = self._passes(x, self.kind(), cache.pieces)
        d_x, d_initial, d_states, d_u = passes.backward(
            d_hidden, d_last, Forward(cache.states, cache.memory), x, self.weights, self.d_weights,
            cache.initial, packing, traced=probe is not None,
        )  # fmt: skip
        if probe is not None and d_states is not None and d_u is not None:
            probe(RecurrentTrace(self, cache, d_states, d_u, d_hidden))
        if cache.initial is None:
            return (d_x, *(None for _ in self.states))
        return (d_x, *(packing.unsort(state) for state in d_initial))

    def kind(self) -> str:
        """The ``kind`` under which backends know this cell; empty for a cell of your own."""
        return _known_as(type(self))

    def _passes(self, x: Rows, kind: str, pieces: tuple[Piece, ...] = ()) -> RecurrentPasses:
        """The passes of the backend if it has them, else the reference; in ``pieces``, if any."""
        passes: RecurrentPasses | None = None
        if x.dtype == self.dtype:
            passes = self.backend.recurrent_passes(kind, self.hidden_size, self.dtype)
        whole: RecurrentPasses = passes or ThroughTime(self)
        if not pieces:
            return whole
        return PieceByPiece(whole, pieces)

    def check_forward(
        self, x: Rows, *initial: Array | None, packing: Packing, whole: bool = True
    ) -> None:
        """See :class:`Layer`."""
        self.expect_rows(x, packing, self.input_size)
        given = [state for state in initial if state is not None]
        if given and len(given) != len(self.states):
            raise InputError(
                f"{len(given)} initial states for a cell that has {len(self.states)} "
                f"({', '.join(self.states)}); give all or none"
            )
        for name, state in zip(self.states, given, strict=False):
            self.expect(f"initial {name} state", state, len(packing.lengths), self.hidden_size)

    def check_backward(
        self, dy: tuple[Array | None, ...], cache: RecurrentCache, probe: Probe | None = None
    ) -> None:
        """See :class:`Layer`."""
        require_cache(cache, RecurrentCache)
        require_outputs(dy, 1 + len(self.states))
        own = self.kind() or type(self).__name__
        if cache.kind != own:
            raise InputError(f"cache is of a layer {cache.kind}, and this is {own}: give its own")
        rows, batch = cache.packing.rows, len(cache.packing.lengths)
        self.expect("hidden of the cache", cache.hidden, rows, self.hidden_size)
        x = cache.x.table if isinstance(cache.x, LookedUp) else cache.x
        self.expect("x of the cache", x, None, self.input_size)
        for place, (d, size) in enumerate(zip(dy, (rows, *(batch for _ in dy)), strict=False)):
            if d is not None:
                self.expect(f"dy[{place}]", d, size, self.hidden_size)
