"""A recurrent layer over trees of prefixes, compiled: each prefix once.

What :mod:`npnlp.inference.walk` does in arrays as a whole, with the steps of
:mod:`npnlp.layers.elman`, :mod:`npnlp.layers.gru` and :mod:`npnlp.layers.lstm`. It goes through a
tree (:mod:`npnlp.backend.compiled.prefixes`) by depth, and keeps the states of two depths.
"""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.elementwise import columns, logistic, tanh
from npnlp.backend.compiled.kernel import inner, kernel
from npnlp.backend.compiled.prefixes import TREE, Prefixes, token_at
from npnlp.backend.compiled.products import add_product, aligned, panels_of, room_for

#: What a step is, and what is made of the hidden states of a sequence.
ELMAN_TANH, ELMAN_RELU, GRU, LSTM = range(4)
LAST, MEAN, MAX = range(3)


@kernel
def walk(
    prefixes: Prefixes, start: int, end: int, kind: int, poolings: Array, table: Array,
    w_hh_t: Array, bias: Array, states: int, out: Array,
) -> None:  # fmt: skip
    """Fill ``out (m, P H)`` with what each of ``poolings (P,)`` makes of sequences of some trees.

    They are those from place ``start`` to ``end``. ``table (G, V, H)`` is the input of each token,
    projected; ``bias (G, H)`` is added to the product of a state with ``w_hh_t (H, G H)``.
    """
    groups, size, longest = len(table), table.shape[2], 0
    for r in range(start, end):
        longest = max(longest, prefixes.lengths[r])
    panels, own = panels_of(w_hh_t, groups, 0, size), columns(0, size)
    rest, product = room_for(TREE, panels), room_of_tree(groups, size, table)
    now, before = room_of_tree(states, size, table), room_of_tree(states, size, table)
    pooled = room_of_tree(len(poolings), size, table)
    above = room_of_tree(len(poolings), size, table)
    gates = np.empty((4, size), table.dtype)
    nodes, counts = np.empty((longest, 3, TREE), np.int32), np.empty((longest, 2), np.int64)
    for low in range(start, end, TREE):
        high, here_out = min(low + TREE, end), out[low - start : low - start + TREE]
        find_nodes(prefixes, low, high, nodes, counts)
        for s in range(states):
            for j in own:
                before[s, 0, j] = 0
        rows = 1
        for depth in range(longest):
            if rows == 0:
                break
            for g in range(groups):
                for b in range(rows):
                    for j in own:
                        product[g, b, j] = bias[g, j]
                if depth:
                    add_product(before[0, :rows], panels[g], rest, product[g], 0, size)
            inside, ends = counts[depth, 0], counts[depth, 1]
            here = nodes[depth]
            for first, last in ((0, inside), (TREE - ends, TREE)):
                take_steps(kind, here, first, last, table, product, before, now, gates, own)
                pool(poolings, here, first, last, depth, above, now[0], pooled, own)
            hand_out(poolings, here, TREE - ends, depth, pooled, now[0], here_out, own)
            now, before, pooled, above, rows = before, now, above, pooled, inside


@inner
def room_of_tree(count: int, size: int, like: Array) -> Array:
    """``(count, TREE, size)``, aligned: a vector across two lines takes twice as long."""
    return aligned(count * TREE * size, like).reshape(count, TREE, size)


@inner
def find_nodes(prefixes: Prefixes, low: int, high: int, nodes: Array, counts: Array) -> None:
    """The nodes of each depth, those that go on from the left, and those that end from the right.

    ``nodes (T, 3, TREE)``: the token, the node above, and of those that end the sequence; ``counts
    (T, 2)``: how many of both.
    """
    for depth in range(len(counts)):
        counts[depth, 0] = counts[depth, 1] = 0
    for r in range(low, high):
        shared, last = prefixes.shared[r], prefixes.lengths[r] - 1
        # The node of a depth that was made last begins this sequence, if that shares so much.
        above = counts[shared - 1, 0] - 1 if shared else 0
        for depth in range(shared, last):
            k = counts[depth, 0]
            nodes[depth, 0, k], nodes[depth, 1, k] = token_at(prefixes, r, depth), above
            counts[depth, 0], above = k + 1, k
        counts[last, 1] += 1
        k = TREE - counts[last, 1]
        nodes[last, 0, k], nodes[last, 1, k] = token_at(prefixes, r, last), above
        nodes[last, 2, k] = r - low


@inner
def take_steps(
    kind: int, nodes: Array, first: int, last: int, table: Array, product: Array, before: Array,
    now: Array, gates: Array, own: Array,
) -> None:  # fmt: skip
    """The states of some nodes; short loops, so that each has few arrays, as in ``gru.py``."""
    for k in range(first, last):
        token, parent, h = nodes[0, k], nodes[1, k], now[0, k]
        if kind == ELMAN_TANH:
            u, q = table[0, token], product[0, parent]
            for j in own:
                h[j] = tanh(u[j] + q[j])
            continue
        if kind == ELMAN_RELU:
            u, q = table[0, token], product[0, parent]
            for j in own:
                h[j] = u[j] + q[j]
                h[j] = 0 if h[j] < 0 else h[j]
            continue
        g = gates
        for i in range(2):
            u, q = table[i, token], product[i, parent]
            for j in own:
                g[i, j] = logistic(u[j] + q[j])
        u, q = table[2, token], product[2, parent]
        if kind == GRU:
            for j in own:
                g[2, j] = tanh(u[j] + g[0, j] * q[j])
            for j in own:
                h[j] = g[2, j] + g[1, j] * (before[0, parent, j] - g[2, j])
            continue
        for j in own:
            g[2, j] = tanh(u[j] + q[j])
        c, u, q = now[1, k], table[3, token], product[3, parent]
        for j in own:
            g[3, j] = logistic(u[j] + q[j])
        for j in own:
            c[j] = g[1, j] * before[1, parent, j] + g[0, j] * g[2, j]
        for j in own:
            h[j] = g[3, j] * tanh(c[j])


@inner
def pool(
    poolings: Array, nodes: Array, first: int, last: int, depth: int, above: Array, hidden: Array,
    pooled: Array, own: Array,
) -> None:  # fmt: skip
    """What the poolings have of each node: its state, and the sum or the maximum down to it."""
    for p in range(len(poolings)):
        if poolings[p] == LAST:
            continue
        for k in range(first, last):
            y, h, so_far = pooled[p, k], hidden[k], above[p, nodes[1, k]]
            if depth == 0:
                for j in own:
                    y[j] = h[j]
            elif poolings[p] == MEAN:
                for j in own:
                    y[j] = so_far[j] + h[j]
            else:
                for j in own:  # what is not a number stays
                    y[j] = so_far[j] if so_far[j] > h[j] else h[j]


@inner
def hand_out(
    poolings: Array, nodes: Array, first: int, depth: int, pooled: Array, hidden: Array,
    out: Array, own: Array,
) -> None:  # fmt: skip
    """The rows of the sequences that end at a depth."""
    size = pooled.shape[2]
    for p in range(len(poolings)):
        share = pooled.dtype.type(1 / (depth + 1) if poolings[p] == MEAN else 1)
        for k in range(first, TREE):
            y = hidden[k] if poolings[p] == LAST else pooled[p, k]
            row = out[nodes[2, k], p * size : (p + 1) * size]
            for j in own:
                row[j] = y[j] * share
