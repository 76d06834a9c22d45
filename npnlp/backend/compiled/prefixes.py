"""Sequences in an order in which those that begin alike stand together, a pass over their tokens.

What :mod:`npnlp.inference.prefixes` finds in arrays as a whole, compiled. The trees are written as
dictionaries are, by front coding: of each sequence how many tokens it begins with as the one before
it does, and the tokens from there on.

    lee, lees, li        0 lee, 3 s, 1 i
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.kernel import kernel

#: Sequences of a tree: so few that its states stay in the cache, and so many that few prefixes are
#: in two trees.
TREE = 512
#: Bits of the number that sequences are sorted by, and of a digit of it.
KEY_BITS, DIGIT_BITS = 64, 11
DIGITS = -(-KEY_BITS // DIGIT_BITS)


class Prefixes(NamedTuple):
    """The trees of n sequences, ``TREE`` sequences a tree.

    ``order (m,)`` are those that differ from each other, sorted; of each its length, ``lengths
    (m,)``, and how many tokens it begins with as the one before it does, ``shared (m,)``: 0 where a
    tree begins, and fewer than it has. ``tokens`` are the others, one sequence after another; those
    of tree k begin at ``starts[k]``. ``repeats`` are the other sequences, equal to ``originals``.
    """

    order: Array
    lengths: Array
    shared: Array
    tokens: Array
    starts: Array
    repeats: Array
    originals: Array


def sort(tokens: Array, lengths: Array, num_tokens: int, reverse: bool) -> Prefixes:
    """The trees of sequences of ``tokens (N,)``, one after another, of these ``lengths (n,)``.

    With ``reverse`` sequences are read from their ends. Those that agree in all that a key has room
    for may come in any order, so that of such ones a repetition may be missed. Raises
    ``IndexError`` for a token that is not below ``num_tokens``.
    """
    ends, bits = np.cumsum(lengths, dtype=np.int64), int(num_tokens).bit_length()
    if ends[-1] != len(tokens) or lengths.min() < 1:
        raise ValueError("lengths are not those of the sequences, or of none")
    read = np.ascontiguousarray(tokens, dtype=np.int32), np.ascontiguousarray(lengths, np.int64)
    where = (ends - 1, -1) if reverse else (ends - lengths, 1)
    keys, order = np.empty(len(lengths), dtype=np.uint64), np.empty(len(lengths), dtype=np.int64)
    begin = fill_keys(*read, *where, num_tokens, bits, keys)
    radix_sort(keys, order)
    sizes, first, shared = read[1].take(order), where[0].take(order), np.empty_like(order)
    coded, starts = np.empty_like(read[0]), np.empty(len(order) // TREE + 1, dtype=np.int64)
    repeats, originals = np.empty((2, len(order)), dtype=np.int64)
    count = front_code(
        read[0], first, where[1], keys, begin, bits, order, sizes, shared, coded, starts, repeats,
        originals,
    )  # fmt: skip
    again = len(order) - count
    return Prefixes(order[:count], sizes[:count], shared[:count], coded, starts, repeats[:again],
                    originals[:again])  # fmt: skip


@kernel
def fill_keys(
    tokens: Array, lengths: Array, first: Array, step: int, num_tokens: int, bits: int, keys: Array
) -> int:
    """``keys (n,)``: the first tokens of each, from 1 on, but those that all begin with.

    How many these are is returned. Token t of sequence i is ``tokens[first[i] + step t]``.
    """
    for k in range(len(tokens)):
        if not 0 <= tokens[k] < num_tokens:
            raise IndexError("a token is out of range")
    begin, alike = 0, True
    while alike:
        for i in range(len(first)):
            place = step * begin
            if lengths[i] <= begin or tokens[first[i] + place] != tokens[first[0] + place]:
                alike = False
                break
        begin += alike
    room = KEY_BITS // bits
    for i in range(len(first)):
        key, end = np.uint64(0), min(lengths[i], begin + room)
        for t in range(begin, end):
            key = (key << np.uint64(bits)) | np.uint64(tokens[first[i] + step * t] + 1)
        keys[i] = key << np.uint64(bits * (begin + room - end))
    return begin


@kernel
def radix_sort(keys: Array, order: Array) -> None:
    """Sort ``keys`` in place, equal ones as they came; ``order`` is where each was.

    A digit at a time, the last first, each time into as many places as that digit has values.
    """
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
        keys[:], order[:] = now, places


@kernel
def front_code(
    tokens: Array, first: Array, step: int, keys: Array, begin: int, bits: int, order: Array,
    lengths: Array, shared: Array, coded: Array, starts: Array, repeats: Array, originals: Array,
) -> int:  # fmt: skip
    """Fill the arrays of :class:`Prefixes`; how many sequences differ from the one before them.

    Everything is in the order of the sorted ``keys`` on entry. A key says of most sequences how far
    they agree and which tokens they have, without a look at tokens that lie far from each other.
    """
    count, again, written, room = 0, 0, 0, KEY_BITS // bits
    mask, digit, top = np.uint64(2**bits - 1), np.uint64(bits), np.uint64(bits * (room - 1))
    key_before, length_before, place_before = keys[0], lengths[0], first[0]
    for r in range(len(order)):
        key, length, place, same = keys[r], lengths[r], first[r], begin
        most = min(length, length_before)
        if key == key_before:
            same = min(begin + room, most)
            while same < most and tokens[place + step * same] == tokens[place_before + step * same]:
                same += 1
            if r > 0 and same == length == length_before:
                repeats[again], originals[again], again = order[r], order[count - 1], again + 1
                continue
        else:
            differ, shift = key ^ key_before, top
            while differ >> shift == 0:
                shift -= digit
                same += 1
        if count % TREE == 0:
            starts[count // TREE], same = written, 0
        # A last token is a node of its own, and never one to go on from.
        order[count], lengths[count], shared[count] = order[r], length, min(same, most - 1)
        t = shared[count]
        while t < min(begin, length):
            coded[written] = tokens[place + step * t]
            written, t = written + 1, t + 1
        shift = top - digit * np.uint64(t - begin)
        while t < min(begin + room, length):
            coded[written] = np.int64((key >> shift) & mask) - 1
            written, t, shift = written + 1, t + 1, shift - digit
        while t < length:
            coded[written] = tokens[place + step * t]
            written, t = written + 1, t + 1
        count, key_before, length_before, place_before = count + 1, key, length, place
    return count
