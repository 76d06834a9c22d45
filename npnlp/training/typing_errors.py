"""Typing errors: in each epoch each name has one with probability P, so that a model bears them.

With equal chances a letter is replaced by another, is left out, comes twice or has another behind
it (half of the time each), or changes places with the next. Other letters are drawn from those of
the split, first letters from first letters. A first letter stays first, as it does in most errors
(Pollock and Zamora, "Automatic spelling correction in scientific and scholarly text", 1984); where
a name is too short for an error, a letter is replaced.

``<BEGIN>`` and ``<END>`` stay, and no name becomes empty. The errors are a function of (seed,
epoch): a resumed run, and every rank, makes the same.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Random
from npnlp.text import SplitArrays

KINDS = REPLACED, OMITTED, INSERTED, SWAPPED = 0, 1, 2, 3
#: The first letter that an error may fall on, and how many letters at the end it may not.
FIRST = np.array([1, 2, 1, 2])
SPARED = np.array([0, 0, 0, 1])

Rows = NDArray[np.int64]


def with_typing_errors(split: SplitArrays, probability: float, random: Random) -> SplitArrays:
    """``split`` with one error in a fraction ``probability`` of its names, in new arrays."""
    wrong, kind_of, place_of, letter, doubled = random.uniform((5, len(split)))
    rows = np.flatnonzero((wrong < probability) & (split.lengths > 2))
    letters, kinds = split.lengths[rows] - 2, (kind_of[rows] * len(KINDS)).astype(np.int64)
    kinds[letters - SPARED[kinds] < FIRST[kinds]] = REPLACED
    choice = letters - SPARED[kinds] - FIRST[kinds] + 1
    kind, place = np.full(len(split), -1), np.zeros(len(split), dtype=np.int64)
    kind[rows], place[rows] = kinds, FIRST[kinds] + (place_of[rows] * choice).astype(np.int64)

    lengths = split.lengths + (kind == INSERTED) - (kind == OMITTED)
    starts = np.cumsum(lengths) - lengths
    row = np.repeat(np.arange(len(split)), lengths)
    at = np.arange(len(row)) - starts[row]
    kind_at, place_at = kind[row], place[row]
    source = at + ((kind_at == OMITTED) & (at >= place_at))
    source -= (kind_at == INSERTED) & (at > place_at)
    source += (kind_at == SWAPPED) * ((at == place_at).astype(np.int64) - (at == place_at + 1))
    tokens = split.tokens[split.starts[row] + source]

    other = (kind == REPLACED) | ((kind == INSERTED) & (doubled < 0.5))
    first = (kind == REPLACED) & (place == 1)
    for which, pool in (
        (other & first, split.tokens[split.starts + 1]),
        (other & ~first, tokens_within(split)),
    ):
        where = (starts + place + (kind == INSERTED))[which]
        tokens[where] = _others(tokens[where], np.sort(pool), letter[which])
    return replace(split, tokens=tokens, starts=starts, lengths=lengths)


def tokens_within(split: SplitArrays) -> NDArray[np.integer]:
    """All letters but the first of each name, name by name; the first, where there is no other."""
    count = np.maximum(split.lengths - 3, 0)
    if not count.any():
        return split.tokens[split.starts + 1]
    row = np.repeat(np.arange(len(split)), count)
    at = np.arange(len(row)) - (np.cumsum(count) - count)[row]
    within: NDArray[np.integer] = split.tokens[split.starts[row] + 2 + at]
    return within


def _others(tokens: Rows, pool: Rows, uniform: NDArray[np.float64]) -> Rows:
    """For each of ``tokens`` one of ``pool``, which is sorted, that is another, if there is any."""
    low, high = (np.searchsorted(pool, tokens, side) for side in ("left", "right"))
    drawn = (uniform * (len(pool) - (high - low))).astype(np.int64)
    drawn += np.where(drawn >= low, high - low, 0)
    return pool[np.minimum(drawn, len(pool) - 1)]
