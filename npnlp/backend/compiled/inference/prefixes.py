"""Prefix trees of many sequences, compiled: sorting and front coding.

Sorting makes sequences with a common prefix neighbours. Front coding stores how many tokens of a
sequence equal those of the one before. The reference is :mod:`npnlp.inference.prefixes`.

    lee, lees, li        0 lee, 2 es, 1 i        the last e of lee is a node of its own
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.dtypes import plain
from npnlp.backend.compiled.vectors.kernel import inner, kernel

#: Sequences of a tree: its states stay in the cache, and few prefixes are in two trees.
TREE = 512
#: Bits of a sort key, and of a digit of it.
KEY_BITS, DIGIT_BITS = 64, 11
DIGITS = -(-KEY_BITS // DIGIT_BITS)
#: The type of tokens of a small vocabulary, which then take less of the cache.
SMALL = np.uint8
MOST_SMALL = 2**8


class Prefixes(NamedTuple):
    """The prefix trees of n sequences, ``TREE`` sequences in each.

    ``order (m,)`` numbers the different sequences, sorted; ``lengths (m,)`` are theirs, and
    ``shared (m,)`` is the length of the prefix common with the one before: 0 where a tree begins,
    and less than both lengths. ``repeats`` are the other sequences, equal to ``originals``.

    Token t of sorted sequence r is ``tokens[first[r] + step * t]``. For locality, ``keys (m,)``
    hold the tokens from ``begin`` on, each plus 1 and in ``bits`` bits, the first of them shifted
    left by ``top`` bits. Before ``begin`` all sequences have the same tokens.
    """

    order: Array
    lengths: Array
    shared: Array
    keys: Array
    first: Array
    repeats: Array
    originals: Array
    tokens: Array
    step: int
    begin: int
    bits: int
    top: int


def sort(tokens: Array, lengths: Array, num_tokens: int, reverse: bool) -> Prefixes:
    """The trees of sequences of ``tokens (N,)``, one after another, of these ``lengths (n,)``.

    With ``reverse`` each sequence starts at its end. Sequences are sorted by the tokens in a key
    only, so some repeated sequences may not be found. Raises ``IndexError`` for a token that is not
    below ``num_tokens``, and ``ValueError`` for lengths that are not those of ``tokens``.
    """
    ends, bits = np.cumsum(lengths, dtype=np.int64), int(num_tokens).bit_length()
    if ends[-1] != len(tokens) or lengths.min() < 1:
        raise ValueError("lengths are not those of the sequences, or of none")
    if tokens.min() < 0 or tokens.max() >= num_tokens:
        raise IndexError("a token is out of range")
    tokens = plain(tokens.astype(SMALL if num_tokens <= MOST_SMALL else np.int32, copy=False))
    lengths = plain(lengths)
    first, step = (ends - 1, -1) if reverse else (ends - lengths, 1)
    keys, order = np.empty(len(lengths), dtype=np.uint64), np.empty(len(lengths), dtype=np.int64)
    begin = fill_keys(tokens, lengths, first, step, bits, keys)
    radix_sort(keys, order)
    lengths, shared = lengths.take(order).astype(np.int64, copy=False), np.empty_like(order)
    prefixes = Prefixes(
        order, lengths, shared, keys, first.take(order), np.empty_like(order),
        np.empty_like(order), tokens, step, begin, bits, bits * (KEY_BITS // bits - 1),
    )  # fmt: skip
    count = front_code(prefixes)
    again = len(order) - count
    return prefixes._replace(
        order=order[:count], lengths=lengths[:count], shared=shared[:count], keys=keys[:count],
        first=prefixes.first[:count], repeats=prefixes.repeats[:again],
        originals=prefixes.originals[:again],
    )  # fmt: skip


@inner
def token_at(prefixes: Prefixes, r: int, t: int) -> Any:
    """Token t of sorted sequence r."""
    return token_of(prefixes, prefixes.keys[r], r, t)


@inner
def token_of(prefixes: Prefixes, key: Any, r: Any, t: Any) -> Any:
    """The same, with the ``key`` of r; r and t are not negative."""
    moved = prefixes.bits * (t - prefixes.begin)
    if 0 <= moved <= prefixes.top:
        mask = np.uint64((1 << prefixes.bits) - 1)
        return np.int64((key >> np.uint64(prefixes.top - moved)) & mask) - 1
    return np.int64(prefixes.tokens[np.uint64(prefixes.first[r] + prefixes.step * t)])


@kernel
def fill_keys(
    tokens: Array, lengths: Array, first: Array, step: int, bits: int, keys: Array
) -> int:
    """Fill ``keys (n,)`` with the first tokens of each sequence after the prefix common to all.

    Returns the length of that prefix. Token t of sequence i is ``tokens[first[i] + step t]``.
    """
    begin: int = lengths.min()
    for i in range(len(first)):
        same = 0
        while same < begin and tokens[first[i] + step * same] == tokens[first[0] + step * same]:
            same += 1
        begin = same
    room = KEY_BITS // bits
    for i in range(len(first)):
        key, end = np.uint64(0), min(lengths[i], begin + room)
        for t in range(begin, end):
            key = (key << np.uint64(bits)) | np.uint64(tokens[first[i] + step * t] + 1)
        keys[i] = key << np.uint64(bits * (begin + room - end))
    return begin


@kernel
def radix_sort(keys: Array, order: Array) -> None:
    """Sort ``keys`` in place by a stable radix sort; ``order`` gets where each was before."""
    n, mask = len(keys), np.uint64(2**DIGIT_BITS - 1)
    counts = np.zeros((DIGITS, 2**DIGIT_BITS), dtype=np.int64)
    for i in range(n):
        order[i] = i
        for d in range(DIGITS):
            counts[d, (keys[i] >> np.uint64(DIGIT_BITS * d)) & mask] += 1
    now, other, places, moved = keys, np.empty_like(keys), order, np.empty_like(order)
    swapped = False
    for d in range(DIGITS):
        shift = np.uint64(DIGIT_BITS * d)
        if n == 0 or counts[d, (now[0] >> shift) & mask] == n:
            continue
        end = 0
        for digit in range(counts.shape[1]):
            counts[d, digit], end = end, end + counts[d, digit]
        for i in range(n):
            bucket = (now[i] >> shift) & mask
            place = counts[d, bucket]
            counts[d, bucket] += 1
            other[place], moved[place] = now[i], places[i]
        now, other, places, moved, swapped = other, now, moved, places, not swapped
    if swapped:
        for i in range(n):
            keys[i], order[i] = now[i], places[i]


@kernel
def front_code(prefixes: Prefixes) -> int:
    """Fill ``shared``; returns how many sequences differ from the one before them.

    On entry the arrays hold all sequences. Repeated ones are moved to ``repeats``.
    """
    order, lengths, shared, keys, first, repeats, originals = prefixes[:7]
    tokens, step, begin, bits, top = prefixes[7:]
    count = 0
    for r in range(len(order)):
        # The last different sequence; for the first one, itself.
        last, same = max(count - 1, 0), begin
        most, differ = min(lengths[r], lengths[last]), keys[r] ^ keys[last]
        if differ == 0:
            same = min(begin + KEY_BITS // bits, most)
            here, there = first[r], first[last]
            while same < most and tokens[here + step * same] == tokens[there + step * same]:
                same += 1
            if r > 0 and same == lengths[r] == lengths[last]:
                repeats[r - count], originals[r - count] = order[r], order[last]
                continue
        else:
            shift = np.uint64(top)
            while differ >> shift == 0:
                shift -= np.uint64(bits)
                same += 1
        # The last token has a node of its own, from which no other sequence continues.
        shared[count] = min(same, most - 1) if count % TREE else 0
        order[count], lengths[count] = order[r], lengths[r]
        keys[count], first[count] = keys[r], first[r]
        count += 1
    return count
