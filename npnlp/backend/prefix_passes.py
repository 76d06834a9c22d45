"""The interface of fast prediction: what a backend may implement for many sequences.

A recurrent network's state after a prefix depends on that prefix only. Sequences are therefore
arranged in prefix trees, and each prefix is computed once. The reference is
:class:`npnlp.inference.predictor.TreePredictor`; every implementation has to equal it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.operations import Array

Integers: TypeAlias = NDArray[np.integer]


class SortedSequences(Protocol):
    """Sequences sorted, so that common prefixes are neighbours, without repeated sequences."""

    @property
    def order(self) -> Integers:
        """``(m,)``: the index of each sorted sequence in the original order."""

    @property
    def repeats(self) -> Integers:
        """``(n - m,)``: the sequences left out, each equal to one in ``order``."""

    @property
    def originals(self) -> Integers:
        """``(n - m,)``: the sequence that each of ``repeats`` equals."""

    @property
    def blocks(self) -> Sequence[slice]:
        """Blocks of sorted sequences, whose results stay in the cache between two passes."""


class PrefixTrees(SortedSequences, Protocol):
    """The prefix trees of sorted sequences; a block is one tree or several."""

    def walk(
        self, block: slice, poolings: Sequence[str], table: Array, w_hh: Array, bias: Array | None
    ) -> Array:
        """A recurrent layer over the sequences of a block, pooled: ``(b, P H)``, concatenated.

        ``poolings`` are from "last", "mean" and "max". ``table (G, V, H)`` is the projected input
        of each token, for each gate; ``w_hh (G H, H)``. ``bias (H,)`` is added at each step to the
        last gate's product with ``w_hh``, None for no bias.
        """

    def ngrams(self, orders: Sequence[int], keys: Array, weights: Array) -> Array:
        """A bag of n-grams of every sequence, ``(m, O)``: see :mod:`npnlp.layers.ngrams`.

        ``orders`` are the n, ``keys (R,)`` the known n-grams and ``weights (R, O)`` their rows.
        """


class PrefixPasses(Protocol):
    """The passes from many sequences to probabilities, for one recurrent layer a direction.

    The results of a sequence have the same bits in any batch.
    """

    def sort(
        self, tokens: Integers, lengths: Integers, num_tokens: int, width: int, *, reverse: bool
    ) -> PrefixTrees:
        """The prefix trees of n concatenated sequences, ``tokens (N,)``, of ``lengths (n,)``.

        With ``reverse`` each sequence starts at its end. A pass computes ``width`` numbers for a
        sequence, which decides the size of blocks. Raises ``IndexError`` for a token that is not
        below ``num_tokens``, and ``ValueError`` for lengths that are not those of ``tokens``.
        """

    def multiply(self, x: Array, weight: Array, before: Array | None) -> Array:
        """``x W^T + before``: ``(b, O)`` of ``x (b, K)``, ``weight (O, K)``, ``before (b, O)``."""

    def finish(
        self, x: Array, weight: Array, before: Array | None, bias: Array,
        second: tuple[Array, Array] | None, *, best: bool,
    ) -> tuple[Array, ...]:  # fmt: skip
        """``softmax(relu(x W^T + before + b) W_2^T + b_2)``, ``(b, C)``, as a tuple of one array.

        ``before (b, O)`` is the part of other features, None for none. ``second`` are ``W_2 (C,
        O)`` and ``b_2 (C,)``; without them it is ``softmax(x W^T + before + b)``. With ``best`` two
        arrays ``(b,)``: the class of each row's maximum, the first of equals, and the maximum.
        """
