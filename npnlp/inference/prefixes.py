"""Many sequences as trees of their prefixes: what several begin with is computed once.

The state of a recurrent network after a prefix depends on nothing but that prefix. So sequences
are sorted, each prefix that the sequence before does not have is a node, and a step of the network
goes from all nodes of one depth to their children:

    Lee, Lees, Li        L | e i. | e. e | s.        nodes by depth; a dot is an end

Of a hundred thousand surnames about half of the steps are left.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer]

#: Of the number that sequences are sorted by.
KEY_BITS = 64


class Level(NamedTuple):
    """The nodes of one depth: first those that go on, ``inner`` of them, then those that end.

    ``tokens (m,)``, and ``parents (m,)``, their places among the nodes one depth above; None in a
    chain, where each node has one child. In a tree the last token of a sequence is counted from V
    on, so that an end and a prefix are never one node.
    """

    tokens: Integers
    parents: Integers | None
    inner: int


def chain(tokens: Integers) -> list[Level]:
    """One sequence as levels."""
    last = len(tokens) - 1
    return [Level(tokens[place : place + 1], None, int(place < last)) for place in range(last + 1)]


class Tree(NamedTuple):
    """``levels`` from the root, and for each node that ends, in their order, its sequence."""

    levels: list[Level]
    sequences: Integers


class _Nodes(NamedTuple):
    """All nodes of a depth that go on, or that end, tree after tree.

    ``rows``, the sorted sequence that each is a prefix of; tree b has those from ``cuts[b]`` to
    ``cuts[b + 1]``.
    """

    rows: Integers
    tokens: Integers
    parents: Integers
    cuts: list[int]

    def of(self, tree: int) -> slice:
        """Those of one tree."""
        return slice(self.cuts[tree], self.cuts[tree + 1])


class Forest:
    """The trees of n sequences, ``block`` sequences a tree.

    ``tokens (N,)``, one sequence after another, are below ``num_tokens``, which is V; ``lengths
    (n,)`` are at least 1. With ``reverse`` sequences are read from their ends. A sequence that
    occurs several times ends in a tree once: ``repeats`` are the others, ``originals`` the ones
    that stand for them.
    """

    def __init__(
        self, tokens: Integers, lengths: Integers, num_tokens: int, *, block: int,
        reverse: bool = False,
    ) -> None:  # fmt: skip
        codes = _padded(tokens, lengths, num_tokens, reverse)
        self._order = np.argsort(_keys(codes))
        columns = np.ascontiguousarray(codes[self._order].T)  # (T, n): a depth lies together
        self._cuts = [*range(0, len(lengths), block), len(lengths)]
        self._depths: list[tuple[_Nodes, _Nodes]] = []
        ends = self._find_nodes(columns, num_tokens)
        stands = np.maximum.accumulate(np.where(ends, np.arange(len(ends)), 0))
        again = np.flatnonzero(~ends)
        self.repeats, self.originals = self._order[again], self._order[stands[again]]

    def _find_nodes(self, columns: Integers, num_tokens: int) -> NDArray[np.bool_]:
        """Fill ``_depths``; of each sorted sequence, whether it ends at a node of its own."""
        count = columns.shape[1]
        new = np.zeros(count, dtype=bool)
        new[self._cuts[:-1]] = True  # a tree has all prefixes of its first sequence
        ends = np.zeros(count, dtype=bool)
        place: Integers = np.zeros(count, dtype=np.intp)
        for code in columns:
            new[1:] |= code[1:] != code[:-1]
            last = code > num_tokens
            end = new & last
            goes_on = new & (code > 0)
            goes_on &= ~last
            self._depths.append((self._nodes(goes_on, code, place), self._nodes(end, code, place)))
            ends |= end
            place = np.cumsum(goes_on)
            place -= 1
        return ends

    def _nodes(self, chosen: NDArray[np.bool_], code: Integers, place: Integers) -> _Nodes:
        rows = np.flatnonzero(chosen)
        cuts = np.searchsorted(rows, self._cuts).tolist()
        return _Nodes(rows, code.take(rows).astype(np.intp) - 1, place.take(rows), cuts)

    def __iter__(self) -> Iterator[Tree]:
        for tree in range(len(self._cuts) - 1):
            levels, ends, above = [], [], 0
            for inner, leaves in self._depths:
                one, two = inner.of(tree), leaves.of(tree)
                parents = np.concatenate([inner.parents[one], leaves.parents[two]]) - above
                tokens = np.concatenate([inner.tokens[one], leaves.tokens[two]])
                levels.append(Level(tokens, parents, one.stop - one.start))
                ends.append(leaves.rows[two])
                above = one.start
                if one.start == one.stop:
                    break
            yield Tree(levels, self._order[np.concatenate(ends)])


def _padded(tokens: Integers, lengths: Integers, num_tokens: int, reverse: bool) -> Integers:
    """``(n, T)``: 1 + token, 1 + V + token for the last of each sequence, and 0 behind it."""
    kind = np.min_scalar_type(2 * num_tokens)
    codes = np.zeros((len(lengths), int(lengths.max())), dtype=kind)
    inside = np.arange(codes.shape[1]) < lengths[:, None]
    own = tokens.astype(kind)
    own += kind.type(1)
    if reverse:
        codes[::-1][inside[::-1]] = own[::-1]
    else:
        codes[inside] = own
    codes[np.arange(len(lengths)), lengths - 1] += kind.type(num_tokens)
    return codes


def _keys(codes: Integers) -> NDArray[np.uint64]:
    """What sequences are sorted by: as many of their first tokens as there is room for.

    Those that agree in all of them may come in any order; the trees are right in every order, and
    small where sequences that begin alike stand together.
    """
    bits = int(codes.max()).bit_length()
    keys = np.zeros(len(codes), dtype=np.uint64)
    varying = [column for column in codes.T if (column != column[0]).any()]
    for column in varying[: KEY_BITS // bits]:
        keys <<= np.uint64(bits)
        keys |= column
    return keys
