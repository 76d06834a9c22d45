"""A character trigram model of each group of names: counted, smoothed and pruned.

With tokens u, v, w in turn, of which there are V, and in each group

    (1)  n(uvw) = how often uvw occurs;  n(vw) = |{u: n(uvw) > 0}|,  n(w) = |{v: n(vw) > 0}|
    (2)  D = (n_1 + 1) / (n_1 + 2 n_2 + 2)      for each order, n_k n-grams of which have n = k
    (3)  q(w | uv) = (n(uvw) - D) / sum over w of n(uvw)
    (4)  P(w | uv) = q(w | uv) + (1 - sum over w of q(w | uv)) P(w | v),  and so on to P = 1 / V
    (5)  gain(uvw) = n(uvw) log(P(w | uv) / P(w | uv without this trigram))

Each order keeps the n-grams of the largest gain. By (4), which sums over those that are kept, the
mass of the others goes to shorter n-grams, and the probabilities still sum to 1.

Source: Kneser and Ney, "Improved backing-off for m-gram language modeling", 1995, interpolated as
in Chen and Goodman, "An empirical study of smoothing techniques for language modeling", 1999, but
for the ones in (2), which keep D below 1. (5): Seymore and Rosenfeld, "Scalable backoff language
models", 1996.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npnlp.summary import summarized
from npnlp.text.ngram_tree import (
    MOST_GROUPS,
    ORDER,
    ZERO,
    AnyIntegers,
    Integers,
    Level,
    codes_of,
    ngram_keys,
)

#: So many n-grams of each order are kept.
MOST_NGRAMS = 8000
#: Tokens that are counted at once.
BLOCK = 2**18


@summarized
class Smoothed(NamedTuple):
    """The n-grams of one order: sorted ``keys``, with the group as first digit; (3); and (5)."""

    keys: Integers
    q: NDArray[np.float64]
    gain: NDArray[np.float64]


def fitted(
    tokens: AnyIntegers, lengths: AnyIntegers, groups: AnyIntegers, num_tokens: int,
    most: int = MOST_NGRAMS,
) -> list[Level]:  # fmt: skip
    """The tree of names' tokens, one name after another; ``groups`` has the number of each name's.

    ``most`` n-grams of each order are kept, besides those that kept ones begin with. The largest
    group comes first.
    """
    groups = _by_size(groups)
    keys, counts = _count(tokens, lengths, groups, num_tokens)
    orders = [(keys, counts)]
    shorter_of: list[Integers] = []
    for n in range(ORDER, 1, -1):
        key, low = orders[0][0], num_tokens ** (n - 1)
        shorter = key // (low * num_tokens) * low + key % low
        keys, row, counts = np.unique(shorter, return_inverse=True, return_counts=True)  # (1)
        orders.insert(0, (keys, counts))
        shorter_of.insert(0, row)
    shorter_of.insert(0, np.zeros(len(orders[0][0]), dtype=np.int64))
    smoothed, probability = [], np.array([1 / num_tokens])
    for (keys, counts), row in zip(orders, shorter_of, strict=True):
        q, left = _discounted(keys // num_tokens, counts)
        without = left * probability[row]
        probability = q + without  # (4)
        smoothed.append(Smoothed(keys, q, counts * np.log(probability / without)))  # (5)
    return _tree(smoothed, int(groups.max()) + 1, num_tokens, most)


def _by_size(groups: AnyIntegers) -> Integers:
    """Groups numbered from the largest on; those from ``MOST_GROUPS - 1`` on are one."""
    sizes = np.bincount(groups)
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return np.minimum(rank, MOST_GROUPS - 1)[groups]


def _count(
    tokens: AnyIntegers, lengths: AnyIntegers, groups: Integers, num_tokens: int
) -> tuple[Integers, Integers]:
    """The trigrams, sorted, and how often each occurs; a block of names at a time."""
    ends = np.cumsum(lengths)
    # Half of the bytes are sorted in half of the time.
    small = (int(groups.max(initial=0)) + 1) * num_tokens**ORDER <= np.iinfo(np.int32).max
    kind = np.int32 if small else np.int64
    found, first = [], 0
    while first < len(lengths):
        start = ends[first] - lengths[first]
        last = max(first + 1, int(np.searchsorted(ends, start + BLOCK, side="right")))
        own = lengths[first:last]
        keys = ngram_keys(tokens[start : ends[last - 1]], own, num_tokens)
        keys += np.repeat(groups[first:last], own - 1) * num_tokens**ORDER
        found.append(np.unique(keys.astype(kind), return_counts=True))
        first = last
    keys, row = np.unique(np.concatenate([keys for keys, _ in found]), return_inverse=True)
    counts = np.bincount(row, np.concatenate([counts for _, counts in found]))
    return keys.astype(np.int64), counts.astype(np.int64)


def _discounted(
    contexts: Integers, counts: Integers
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3) of each n-gram, and the mass that its context leaves to shorter ones."""
    once, twice = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
    discount = (once + 1) / (once + 2 * twice + 2)  # (2)
    _, row, kinds = np.unique(contexts, return_inverse=True, return_counts=True)
    totals = np.bincount(row, counts)
    return (counts - discount) / totals[row], (discount * kinds / totals)[row]


def _tree(orders: list[Smoothed], num_groups: int, num_tokens: int, most: int) -> list[Level]:
    """The n-grams of the largest gain, and those that they begin with."""
    kept: list[Integers] = []
    begins = np.empty(0, dtype=np.int64)
    for order in reversed(orders):
        best = order.keys[np.argsort(-order.gain, kind="stable")[:most]]
        kept.insert(0, np.union1d(best, begins))
        begins = kept[0] // num_tokens
    levels, parents = [], np.arange(num_groups)
    for own, order in zip(kept, orders, strict=True):
        row = np.searchsorted(order.keys, own)
        known = order.keys.take(row, mode="clip") == own
        codes = np.full(len(own), ZERO, dtype=np.uint8)  # <BEGIN> begins n-grams, and ends none
        codes[known] = codes_of(order.q[row[known]])
        parent = np.searchsorted(parents, own // num_tokens)
        children = np.bincount(parent, minlength=len(parents))
        levels.append(Level(children, own % num_tokens, codes))
        parents = own
    return levels
