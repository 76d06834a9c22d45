"""Many sequences as trees of their prefixes: what several begin with is computed once.

The state of a recurrent network after a prefix depends on that prefix alone. Sequences are sorted,
and of each it is counted how many tokens it shares with the one before it. Its other tokens are
nodes of a tree, and a step of the network goes from all nodes of one depth to their children:

    lee, lees, li        l | e i. | e. e | s.        nodes by depth; a dot is an end

A sequence's last token is a node of its own, and nothing goes on from there. Of a hundred thousand
surnames about half of the steps are left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.prefix_passes import Integers

#: Of the number that sequences are sorted by.
KEY_BITS = 64


class Level(NamedTuple):
    """The nodes of one depth: first those that go on, ``inner`` of them, then those that end.

    ``tokens (m,)``, and ``parents (m,)``, their places among the nodes one depth above; None in a
    chain, where each node has one child.
    """

    tokens: Integers
    parents: Integers | None
    inner: int


def chain(tokens: Integers) -> list[Level]:
    """One sequence as levels."""
    last = len(tokens) - 1
    return [Level(tokens[place : place + 1], None, int(place < last)) for place in range(last + 1)]


class Trees:
    """The trees of n sequences, ``block`` sequences a tree; see :class:`PrefixTrees`.

    ``tokens (N,)``, one sequence after another, are below ``num_tokens``; ``lengths (n,)`` are at
    least 1. With ``reverse`` sequences are read from their ends.
    """

    def __init__(
        self, tokens: Integers, lengths: Integers, num_tokens: int, *, block: int,
        reverse: bool = False,
    ) -> None:  # fmt: skip
        codes = _padded(tokens, lengths, num_tokens, reverse)
        order = np.argsort(_keys(codes))
        columns = np.ascontiguousarray(codes[order].T)  # (T, n): a depth lies together
        same, shared = np.ones(len(order) - 1, dtype=bool), np.zeros(len(order), dtype=np.intp)
        for column in columns:
            same &= column[1:] == column[:-1]
            shared[1:] += same
        new = np.append(True, ~same)
        self.order, self.repeats = order[new], order[~new]
        self.originals = self.order.take(new.cumsum()[~new] - 1)
        self._columns, self._last = columns[:, new], lengths[self.order] - 1
        self._shared = np.minimum(shared[new], self._last)
        np.minimum(self._shared[1:], self._last[:-1], out=self._shared[1:])
        self._shared[::block] = 0
        self.blocks = [slice(low, low + block) for low in range(0, len(self.order), block)]

    def levels(self, block: slice) -> tuple[list[Level], Integers]:
        """A tree's levels from the root, and for each node that ends, in order, its sequence."""
        shared, last = self._shared[block], self._last[block]
        ends = np.argsort(last, kind="stable")
        levels, start, above = [], 0, np.zeros(len(last), dtype=np.intp)
        for depth, stop in enumerate(np.bincount(last).cumsum().tolist()):
            goes_on = (shared <= depth) & (depth < last)
            inner = np.flatnonzero(goes_on)
            nodes = np.concatenate([inner, ends[start:stop]])
            tokens = self._columns[depth, block].take(nodes).astype(np.intp)
            levels.append(Level(tokens, above.take(nodes), len(inner)))
            above, start = goes_on.cumsum() - 1, stop
        return levels, self.order[block].take(ends)


def _padded(tokens: Integers, lengths: Integers, num_tokens: int, reverse: bool) -> Integers:
    """``(n, T)``: the tokens of each sequence, and ``num_tokens`` behind them."""
    kind = np.min_scalar_type(num_tokens)
    codes = np.full((len(lengths), int(lengths.max())), num_tokens, dtype=kind)
    inside = np.arange(codes.shape[1]) < lengths[:, None]
    if reverse:
        codes[::-1][inside[::-1]] = tokens[::-1]
    else:
        codes[inside] = tokens
    return codes


def _keys(codes: Integers) -> NDArray[np.uint64]:
    """What sequences are sorted by: as many of their first tokens as there is room for.

    Those that agree in all of them may come in any order; the trees are right in every order, and
    small where sequences that begin alike stand together.
    """
    bits = max(1, int(codes.max()).bit_length())
    keys = np.zeros(len(codes), dtype=np.uint64)
    varying = [column for column in codes.T if (column != column[0]).any()]
    for column in varying[: KEY_BITS // bits]:
        keys <<= np.uint64(bits)
        keys |= column
    return keys
