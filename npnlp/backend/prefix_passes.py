"""The door to fast prediction: what a backend may offer for many sequences at once.

A recurrent network's state after a prefix depends on that prefix alone. Sequences that begin alike
are therefore computed together, as trees of their prefixes, each prefix once. The reference in
array calls is :class:`npnlp.inference.predictor.TreePredictor`; every such object has to equal it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Integers: TypeAlias = NDArray[np.integer]


class SortedSequences(Protocol):
    """Sequences sorted, so that those that begin alike stand together; each different one once."""

    @property
    def order(self) -> Integers:
        """``(m,)``: the number of the sequence at each sorted place."""

    @property
    def repeats(self) -> Integers:
        """``(n - m,)``: the sequences left out, because each equals one that is there."""

    @property
    def originals(self) -> Integers:
        """``(n - m,)``: the sequence that each of ``repeats`` equals."""

    @property
    def blocks(self) -> Sequence[slice]:
        """Sorted places in blocks, whose results stay in the cache from one pass to the next."""


class PrefixTrees(SortedSequences, Protocol):
    """The trees of their prefixes; a block is whole trees."""

    def walk(
        self, block: slice, poolings: Sequence[str], table: Array, w_hh: Array, bias: Array | None
    ) -> Array:
        """A recurrent layer over the sequences of a block, pooled: ``(b, P H)``, side by side.

        ``poolings`` are of "last", "mean" and "max". ``table (G, V, H)`` is what the input adds to
        the sums of each gate for each token, ``w_hh (G H, H)``, and ``bias (H,)`` is what the cell
        adds in each step to the last gate's product; None where it adds nothing.
        """

    def ngrams(self, orders: Sequence[int], keys: Array, weights: Array) -> Array:
        """A bag of n-grams of every sequence, ``(m, O)``: see :mod:`npnlp.layers.ngrams`.

        ``orders`` are the n, ``keys (R,)`` the known n-grams and ``weights (R, O)`` their rows.
        """


class PrefixPasses(Protocol):
    """The passes from many sequences to probabilities, for one recurrent layer a direction.

    A sequence's numbers have the same bits whatever others it is computed with.
    """

    def sort(
        self, tokens: Integers, lengths: Integers, num_tokens: int, width: int, *, reverse: bool
    ) -> PrefixTrees:
        """The trees of n sequences of ``tokens (N,)``, one after another, of ``lengths (n,)``.

        With ``reverse`` sequences are read from their ends. ``width`` is how many numbers a pass
        makes of a sequence, for the size of blocks. Raises ``IndexError`` for a token that is not
        below ``num_tokens``, and ``ValueError`` for lengths that are not those of ``tokens``.
        """

    def multiply(self, x: Array, weight: Array, before: Array | None) -> Array:
        """``x W^T + before``: ``(b, O)`` of ``x (b, K)``, ``weight (O, K)``, ``before (b, O)``."""

    def finish(
        self, x: Array, weight: Array, before: Array | None, bias: Array,
        second: tuple[Array, Array] | None, *, best: bool,
    ) -> tuple[Array, ...]:  # fmt: skip
        """``softmax(relu(x W^T + before + b) W_2^T + b_2)`` of every row, ``(b, C)``, alone.

        ``before (b, O)`` is the part of other features, None for none. ``second`` are ``W_2 (C,
        O)`` and ``b_2 (C,)``; without them it is ``softmax(x W^T + before + b)``. With ``best``:
        where each row is largest, the first of equals, and the number there, both ``(b,)``.
        """
