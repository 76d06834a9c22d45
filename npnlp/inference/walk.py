"""From the root of a tree of prefixes to its ends: recurrent layers, poolings and n-grams.

Whatever a model makes of a sequence step by step goes down the tree with the states: the maximum
and the sum of the hidden states so far, and the sum of the weights of the n-grams so far.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npnlp.backend import Array
from npnlp.inference.prefixes import Level
from npnlp.inference.steps import Steps
from npnlp.layers.ngrams import NgramBag


def handed_down(x: Array, level: Level) -> Array:
    """The rows of the nodes above, a row a node of this level."""
    return x if level.parents is None else x.take(level.parents, axis=0)


@np.errstate(over="ignore")  # of e^-a in a closed gate
def walk(
    layers: Sequence[Steps], table: Array, levels: Sequence[Level], poolings: Sequence[str]
) -> Array:
    """What the poolings (last, mean, max) make of each sequence: ``(ends, P H)``, side by side.

    ``layers`` stand on top of each other; ``table (R, H)`` or ``(G, R, H)`` is what the first one's
    input is for each token, projected.
    """
    xp = layers[0].xp
    states = [steps.begin() for steps in layers]
    so_far: dict[str, Array] = {}
    found: list[list[Array]] = [[] for _ in poolings]
    for depth, level in enumerate(levels):
        inner = level.inner
        x = table.take(level.tokens, axis=-2)
        some_end = inner < len(level.tokens)
        for k, steps in enumerate(layers):
            now = steps.step(steps.project(x) if k else x, states[k], level.parents)
            x, states[k] = now[0], [state[:inner] for state in now] if some_end else now
        for place, pooling in enumerate(poolings):
            y = x
            if pooling != "last":
                if depth:
                    above = handed_down(so_far[pooling], level)
                    y = xp.maximum(above, x) if pooling == "max" else above + x
                so_far[pooling] = y[:inner]
            if some_end:
                end = y[inner:]
                found[place].append(end / (depth + 1) if pooling == "mean" else end)
    pooled: list[Array] = [xp.concatenate(ends) for ends in found]
    return pooled[0] if len(pooled) == 1 else xp.concatenate(pooled, axis=1)


def find(bag: NgramBag, keys: Array) -> tuple[Array, Array]:
    """(2): the row of each key, and whether it is known at all."""
    rows = bag.backend.xp.minimum(bag.keys.searchsorted(keys), len(bag.keys) - 1)
    return rows, bag.keys.take(rows) == keys


def sum_ngrams(bag: NgramBag, tokens: Array) -> Array:
    """(1), (2) and (4) of :mod:`npnlp.layers.ngrams` for one sequence: ``(F,)``."""
    xp, own = bag.backend.xp, tokens + 1
    keys, found = own, []
    for order in range(1, max(bag.orders) + 1):
        if order > 1:
            keys = keys[:-1] * (bag.num_tokens + 1) + own[order - 1 :]  # (1)
        if order in bag.orders:
            found.append(keys)
    rows, known = find(bag, xp.concatenate(found))
    rows = rows[known]
    total: Array = bag.parameters["weight"].take(rows, axis=0).sum(axis=0)
    total *= max(len(rows), 1) ** -0.5  # (4)
    return total


def walk_ngrams(bag: NgramBag, table: Array, levels: Sequence[Level]) -> Array:
    """The same for each sequence of a tree: ``(ends, O)``; ``table (R, O)`` are the weights."""
    xp, size = bag.backend.xp, bag.num_tokens
    keys: list[Array] = []
    sums, counts = bag.backend.zeros((1, table.shape[1]), table.dtype), xp.zeros(1, dtype=int)
    found = []
    for level in levels:
        inner, own = level.inner, level.tokens + 1
        longer = [handed_down(key, level) * (size + 1) + own for key in keys]
        keys = [own, *longer][: max(bag.orders)]  # (1), those of 1, 2, ... tokens
        sums, counts = handed_down(sums, level), handed_down(counts, level)  # copies
        for order in bag.orders:
            if order > len(keys):
                continue
            rows, known = find(bag, keys[order - 1])
            places = xp.flatnonzero(known)
            sums[places] += table.take(rows.take(places), axis=0)
            counts[places] += 1
        factors = xp.maximum(counts[inner:, None], 1) ** -0.5
        found.append(sums[inner:] * factors.astype(sums.dtype))  # (4)
        keys, sums, counts = [key[:inner] for key in keys], sums[:inner], counts[:inner]
    summed: Array = xp.concatenate(found)
    return summed
