"""A batch with a long tail, piece by piece: a few sequences that are far longer than the others.

The tail are the steps that at most an eighth of the sequences have, or a single one. A step of it
has few rows, and all of them together may be many more than those of the other sequences. So what
the cell remembers is kept for no step: the states are, and backward runs each piece forward again
before it undoes it, from the last one up (Chen, Xu, Zhang and Guestrin, "Training deep nets with
sublinear memory cost", 2016). Sequences of like length have no tail, and are one piece.
"""

from __future__ import annotations

from typing import Any

from npnlp.backend.operations import (
    Array,
    Backward,
    Forward,
    LookedUp,
    PackedSteps,
    RecurrentPasses,
    Rows,
    States,
    Weights,
)
from npnlp.layers.packing import Packing
from npnlp.layers.recurrent.memory import Piece

#: A tail has at most one in so many of the sequences, or one.
FEW = 8
#: Packed rows of a piece of the tail; a shorter tail is no piece.
ROWS = 2048


def pieces_of(packing: Packing) -> tuple[Piece, ...]:
    """The pieces of a batch, in order; none where it is to be left whole."""
    offsets, sizes = packing.runs
    begin = int((sizes > max(1, len(packing.lengths) // FEW)).sum())
    if begin == len(sizes) or packing.rows - offsets[begin] <= ROWS:
        return ()
    cuts = [0, begin] if begin else [0]
    while (end := cuts[-1] + max(1, ROWS // int(sizes[cuts[-1]]))) < len(sizes):
        cuts.append(end)
    ends = [*cuts[1:], len(sizes)]
    return tuple(_piece(packing, *steps) for steps in zip(cuts, ends, strict=True))


def _piece(packing: Packing, first: int, last: int) -> Piece:
    offsets, running = packing.offsets, packing.batch_sizes[first]
    own = Packing.of((packing.longest_first[:running] - first).clip(max=last - first),
                     packing.backend)  # fmt: skip
    rows = slice(offsets[first], offsets[first] + own.rows)
    before = slice(offsets[first - 1], offsets[first - 1] + running) if first else None
    return Piece(rows, own, before)


class PieceByPiece:
    """``passes`` of a batch of some ``pieces``; its forward pass returns no memory."""

    def __init__(self, passes: RecurrentPasses, pieces: tuple[Piece, ...]) -> None:
        self.passes, self.pieces = passes, pieces
        self.xp = pieces[0].packing.backend.xp

    def forward(
        self, x: Rows, weights: Weights, initial: States | None, steps: PackedSteps
    ) -> Forward:
        """See :meth:`RecurrentPasses.forward`."""
        states: States = ()
        for piece in self.pieces:
            first = _before(piece, states, initial)
            found = self.passes.forward(_rows(x, piece), weights, first, piece.packing)
            if not states:
                empty, units = self.xp.empty, weights.w_hh.shape[1]
                states = tuple(empty((steps.rows, units), dtype=x.dtype) for _ in found.states)
            for whole, part in zip(states, found.states, strict=True):
                whole[piece.rows] = part
        return Forward(states, ())

    def backward(
        self, d_hidden: Array | None, d_last: States, found: Forward, x: Rows, weights: Weights,
        grads: Weights, initial: States | None, steps: PackedSteps, *, traced: bool,
    ) -> Backward:  # fmt: skip
        """See :meth:`RecurrentPasses.backward`; nothing is traced."""
        parts: list[Array] = []
        for piece in reversed(self.pieces):
            first, own = _before(piece, found.states, initial), _rows(x, piece)
            again = self.passes.forward(own, weights, first, piece.packing)
            running = len(piece.packing.lengths)
            undone = self.passes.backward(
                None if d_hidden is None else d_hidden[piece.rows],
                tuple(d[:running].copy() for d in d_last),
                again, own, weights, grads, first, piece.packing, traced=False,
            )  # fmt: skip
            for d, d_before in zip(d_last, undone.d_initial, strict=True):
                d[:running] = d_before
            parts.insert(0, undone.d_x)
        d_x: Any = sum(parts) if isinstance(x, LookedUp) else self.xp.concatenate(parts)
        return Backward(d_x, d_last, None, None)


def _before(piece: Piece, states: States, initial: States | None) -> States | None:
    """The initial states of ``piece``."""
    if piece.before is None:
        return initial
    return tuple(state[piece.before] for state in states)


def _rows(x: Rows, piece: Piece) -> Rows:
    if isinstance(x, LookedUp):
        return LookedUp(x.table, x.tokens[piece.rows])
    return x[piece.rows]
