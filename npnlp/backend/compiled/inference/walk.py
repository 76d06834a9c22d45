"""A recurrent layer over prefix trees, compiled: each prefix is computed once.

The walk goes down a tree (``backend/compiled/inference/prefixes.py``) depth by depth, and stores
the states of two depths. It computes a block of nodes at a time, whose states are still in the
cache for the matrix product. The reference is :mod:`npnlp.inference.walk`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.inference.prefixes import TREE, Prefixes, token_of
from npnlp.backend.compiled.inference.steps import (
    Nodes,
    gru_steps,
    lstm_steps,
    relu_steps,
    tanh_steps,
)
from npnlp.backend.compiled.panels import aligned, panels_of, room_for
from npnlp.backend.compiled.products import put_product
from npnlp.backend.compiled.vectors.elementwise import columns
from npnlp.backend.compiled.vectors.kernel import distinct, inner, kernel
from npnlp.backend.compiled.vectors.tile import loose
from npnlp.backend.compiled.vectors.vectors import Number, picked

#: The codes of the poolings.
LAST, MEAN, MAX = range(3)
#: Nodes computed at a time.
BLOCK = 64


@picked
def add_up(so_far: Number, h: Number) -> tuple[Number, ...]:
    """A sum."""
    return (so_far + h,)


@picked
def take_larger(so_far: Number, h: Number) -> tuple[Number, ...]:
    """The maximum; NaN stays, since all states after it are NaN."""
    return (so_far.larger(h),)


def _walker(take_steps: Callable[..., None], states: int) -> Callable[..., None]:
    """The walk of a cell with this many ``states``; ``take_steps`` computes its steps."""

    def walk(
        prefixes: Prefixes, start: int, end: int, poolings: Array, table: Array, w_hh_t: Array,
        bias: Array, out: Array,
    ) -> None:  # fmt: skip
        """Fill ``out (m, P H)``: the ``poolings (P,)`` of sorted sequences ``start`` to ``end``.

        The mean is left as a sum. ``table (G, V, H)`` is the projected input of each token. A GRU
        adds ``bias (1, H)`` to the last gate's part of the product with ``w_hh_t (H, G H)``.
        """
        groups, size, pools = len(table), table.shape[2], len(poolings)
        longest = prefixes.lengths[start:end].max()
        panels = panels_of(w_hh_t, groups, 0, size)
        rest = room_for(BLOCK, panels)
        now, before = rows_of(states, size, table), rows_of(states, size, table)
        product, following = rows_of(groups, size, table), rows_of(groups, size, table)
        pooled, above = rows_of(1, pools * size, table)[0], rows_of(1, pools * size, table)[0]
        # Where a sequence ends, c is not needed, and h only for pooling.
        spare, last_at = rows_of(states, size, table), -1
        for p in range(pools):
            if poolings[p] == LAST:
                last_at = p * size
        nodes, counts = np.empty((longest, 3, TREE), np.int32), np.empty((longest, 2), np.int64)
        own, zeros = np.arange(TREE).astype(np.int32), np.zeros(TREE, np.int32)
        for low in range(start, end, TREE):
            find_nodes(prefixes, low, min(low + TREE, end), nodes, counts)
            given = loose(out[low - start : low - start + TREE])
            ended = given[:, last_at : last_at + size] if last_at >= 0 else spare[0][:, :size]
            # Above the roots: zero states, and nothing is pooled.
            for j in columns(0, size):
                for g in range(groups):
                    product[g, 0, j] = 0
                for s in range(states):
                    before[s, 0, j] = 0
                for p in range(pools):
                    above[0, p * size + j] = -np.inf if poolings[p] == MAX else 0
            for depth in range(longest):
                inside, ends, here = counts[depth, 0], TREE - counts[depth, 1], nodes[depth]
                h, c = loose(now[0]), loose(now[states - 1])
                for first in range(0, inside, BLOCK):
                    last = min(first + BLOCK, inside)
                    at = Nodes(here[0], here[1], own, zeros, first, last)
                    take_steps(at, table, product, bias, before, (h, c))
                    for g in range(groups):
                        some = following[g, first:last]
                        put_product(h[first:last], panels[g], rest, some, 0, size)
                at = Nodes(here[0], here[1], here[2], zeros, ends, TREE)
                take_steps(at, table, product, bias, before, (ended, loose(spare[states - 1])))
                if pools > 1 or last_at < 0:
                    pool(poolings, here[1], own, above, h, loose(pooled), 0, inside)
                    pool(poolings, here[1], here[2], above, ended, given, ends, TREE)
                now, before, product, following = before, now, following, product
                pooled, above = above, pooled

    return inner(distinct(walk, take_steps.__name__))


@inner
def rows_of(count: int, size: int, like: Array) -> Array:
    """``(count, TREE, size)``, aligned: a vector across two cache lines takes twice as long."""
    return aligned(count * TREE * size, like).reshape(count, TREE, size)


@inner
def find_nodes(prefixes: Prefixes, low: int, high: int, nodes: Array, counts: Array) -> None:
    """The nodes of each depth: inner nodes from the left, ends of sequences from the right.

    ``nodes (T, 3, TREE)``: the token, the parent, and of an end the sequence; ``counts (T, 2)``:
    how many inner nodes and how many ends.
    """
    for depth in range(len(counts)):
        counts[depth, 0] = counts[depth, 1] = 0
    for r in columns(low, high):
        key, shared, last = prefixes.keys[r], prefixes.shared[r], np.uint64(prefixes.lengths[r] - 1)
        # The last inner node of depth ``shared - 1`` is the prefix common with the one before.
        above = counts[np.uint64(shared - 1), 0] - 1 if shared else 0
        for depth in range(np.uint64(shared), last):
            k = np.uint64(counts[depth, 0])
            token = token_of(prefixes, key, r, np.int64(depth))
            nodes[depth, 0, k], nodes[depth, 1, k] = token, above
            counts[depth, 0], above = np.int64(k) + 1, np.int64(k)
        counts[last, 1] += 1
        k = np.uint64(TREE - counts[last, 1])
        nodes[last, 0, k], nodes[last, 1, k] = token_of(prefixes, key, r, np.int64(last)), above
        nodes[last, 2, k] = np.int64(r) - low


@inner
def pool(
    poolings: Array, parents: Array, target: Array, above: Array, h: Array, pooled: Array,
    first: int, last: int,
) -> None:  # fmt: skip
    """The sum or the maximum of the states from the root to each node, in rows ``target``."""
    size = h.shape[1]
    for p in range(len(poolings)):
        own = slice(p * size, (p + 1) * size)
        so_far, found = above[:, own], pooled[:, own]
        if poolings[p] == MEAN:
            add_up((so_far, h), (parents, target), (found,), target, first, last)
        elif poolings[p] == MAX:
            take_larger((so_far, h), (parents, target), (found,), target, first, last)


_tanh, _relu, _gru, _lstm = (
    _walker(tanh_steps, 1), _walker(relu_steps, 1), _walker(gru_steps, 1), _walker(lstm_steps, 2)
)  # fmt: skip


@kernel
def walk_elman_tanh(*arguments: Any) -> None:
    """See :func:`_walker`: Elman with tanh."""
    _tanh(*arguments)


@kernel
def walk_elman_relu(*arguments: Any) -> None:
    """See :func:`_walker`: Elman with ReLU."""
    _relu(*arguments)


@kernel
def walk_gru(*arguments: Any) -> None:
    """See :func:`_walker`: GRU."""
    _gru(*arguments)


@kernel
def walk_lstm(*arguments: Any) -> None:
    """See :func:`_walker`: LSTM."""
    _lstm(*arguments)
