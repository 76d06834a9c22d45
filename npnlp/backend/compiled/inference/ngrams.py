"""A bag of n-grams over prefix trees, compiled: each n-gram of a prefix is computed once.

The keys and sums of the previous sequence are stored by depth; the next sequence continues from
their common prefix. The equations are those of :mod:`npnlp.layers.ngrams`.
"""

from __future__ import annotations

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.inference.prefixes import Prefixes, token_at
from npnlp.backend.compiled.vectors.elementwise import columns
from npnlp.backend.compiled.vectors.kernel import inner, kernel


@kernel
def sum_ngrams(
    prefixes: Prefixes, orders: Array, num_tokens: int, known: Array, weights: Array, out: Array
) -> None:  # fmt: skip
    """``out = sum_k weights_k / sqrt(n)`` over the n ``known`` n-grams of each sequence.

    Shapes: ``known (R,)``, sorted; ``weights (R, O)``; ``out (m, O)``.
    """
    lengths, own = prefixes.lengths, columns(0, weights.shape[1])
    longest, most = lengths.max(), orders.max()
    keys = np.zeros((longest + 1, most), np.int64)
    totals = np.zeros((longest + 1, weights.shape[1]), weights.dtype)
    counts = np.zeros(longest + 1, np.int64)
    for r in range(len(lengths)):
        last = lengths[r]
        for depth in range(prefixes.shared[r], last):
            total, token = totals[depth + 1], token_at(prefixes, r, depth) + 1
            counts[depth + 1] = counts[depth]
            for j in own:
                total[j] = totals[depth, j]
            for n in range(min(depth + 1, most)):
                longer = keys[depth, n - 1] * (num_tokens + 1) if n else 0
                keys[depth + 1, n] = longer + token  # (1)
            for n in orders:
                place = find(known, keys[depth + 1, n - 1]) if n <= depth + 1 else -1  # (2)
                if place >= 0:
                    counts[depth + 1] += 1
                    for j in own:
                        total[j] += weights[place, j]
        factor = weights.dtype.type(max(counts[last], 1) ** -0.5)
        for j in own:
            out[r, j] = totals[last, j] * factor  # (4)


@inner
def find(known: Array, key: int) -> int:
    """The index of ``key`` in the sorted ``known (R,)``; -1 if it is not there."""
    low, high = 0, len(known)
    while low < high:
        middle = (low + high) // 2
        if known[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low if low < len(known) and known[low] == key else -1
