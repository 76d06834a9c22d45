"""Familiarity: how much a text is like the names of training, of whatever class.

    (1)  l_g = 1 / (n + 1) * sum over t = 1 ... n + 1 of  log P_g(x_t | x_t-2 x_t-1)
    (2)  s = max_g l_g + 0.3 (max_g l_g - mean_g l_g)
    (3)  unfamiliar: s < threshold, below which lies a given fraction of held-out names

for the n characters x_1 ... x_n of a text, and ``<END>``, x_n+1. P_g is the trigram model of the
names of class g (:mod:`npnlp.text.ngram_counts`). A text is familiar where one class would have
written it, and the more so where the others would not: of letters at random that is far from true,
and of words that are no names less true than of names. The mean over t makes texts of different
lengths comparable.

Every text takes two or three look-ups a character. Tables hold log P of the n-grams that some class
keeps, a column a class, and what the context of an n-gram leaves to shorter ones:

    (4)  log P(w | uv) = rest(uv) + log P(w | v)      where no class keeps uvw

Source: the likelihood per character of an n-gram model as a filter of texts is that of Wenzek et
al., "CCNet: Extracting high quality monolingual datasets from web crawl data", 2020; the contrast
of (2) is a likelihood ratio to a background model (Ren et al., "Likelihood ratios for
out-of-distribution detection", 2019), here the other classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.checks import require_fraction
from npnlp.errors import InputError
from npnlp.text.ngram_counts import fitted
from npnlp.text.ngram_tree import (
    MOST_TOKENS,
    ORDER,
    AnyIntegers,
    Integers,
    Level,
    Q,
    levels_of,
    ngram_keys,
    tensors_of,
)

#: The fraction of held-out names that is below the threshold.
FRACTION = 0.02
#: Tokens that are scored at once.
BLOCK = 2**15


def _require_size(num_tokens: int) -> None:
    if not 1 <= num_tokens < MOST_TOKENS:
        raise InputError(f"num_tokens is {num_tokens}; it has to be 1 to {MOST_TOKENS - 1}")


class Familiarity:
    """The trigram models of the classes of names, as a tree, and the ``threshold`` of (3).

    ``num_tokens`` is the size V of the vocabulary. Raises :class:`InputError` for one of 2^19 and
    more, a threshold that is no number, and a tree whose probabilities sum to more than 1.
    """

    #: The weight of the contrast in (2).
    contrast = 0.3

    def __init__(self, levels: list[Level], num_tokens: int, threshold: float = -math.inf) -> None:
        _require_size(num_tokens)
        if math.isnan(threshold):
            raise InputError("threshold is not a number; it has to be one")
        self.levels, self.num_tokens, self.threshold = levels, num_tokens, threshold
        for n, level in enumerate(levels, 1):
            if level.left().min(initial=1) <= 0:
                raise InputError(f"codes.{n}: probabilities sum to more than 1")
        self._keys: list[Integers] = []
        self._tables: list[NDArray[np.float32]] = []
        self._rests: list[NDArray[np.float32]] = []

    @classmethod
    def of(
        cls, tokens: AnyIntegers, lengths: AnyIntegers, num_tokens: int,
        classes: AnyIntegers | None = None,
    ) -> Self:  # fmt: skip
        """Fit to names: their tokens from ``<BEGIN>`` to ``<END>``, one name after another.

        ``classes`` has the number of each name's class; without it they are all of one. More than
        64 classes are made 64, the smallest ones together being one.
        """
        if not len(lengths):
            raise InputError("names are missing; familiarity needs at least one")
        _require_size(num_tokens)
        groups = np.zeros(len(lengths), dtype=np.int64) if classes is None else classes
        return cls(fitted(tokens, lengths, groups, num_tokens), num_tokens)

    def calibrate(
        self, tokens: AnyIntegers, lengths: AnyIntegers, fraction: float = FRACTION
    ) -> None:
        """Set the threshold of (3): of these held-out names at most ``fraction`` is below it."""
        require_fraction("fraction", fraction)
        if not len(lengths):
            raise InputError("names are missing; a threshold needs at least one")
        self.threshold = float(np.sort(self.scores(tokens, lengths))[int(fraction * len(lengths))])

    def scores(self, tokens: AnyIntegers, lengths: AnyIntegers) -> NDArray[np.float32]:
        """(2) of each name, whatever others stand beside it; higher is more familiar."""
        ends = np.cumsum(lengths)
        out = np.empty(len(lengths), dtype=np.float32)
        first = 0
        while first < len(lengths):
            start = ends[first] - lengths[first]
            last = max(first + 1, int(np.searchsorted(ends, start + BLOCK, side="right")))
            own = lengths[first:last].astype(np.int64)
            keys = ngram_keys(tokens[start : ends[last - 1]], own, self.num_tokens)
            own -= 1
            sums = np.add.reduceat(self.log_probabilities(keys), np.cumsum(own) - own)
            best, mean = sums.max(axis=1), sums.mean(axis=1)
            out[first:last] = (best + self.contrast * (best - mean)) / own  # (1), (2)
            first = last
        return out

    def log_probabilities(self, keys: Integers, n: int = ORDER) -> NDArray[np.float32]:
        """``(N, G)``: log P, in each class, of the last token of the n-grams with these keys."""
        if not self._keys:
            self._tabulate()
        row = self._rows(n, keys)
        out = self._tables[n].take(row, axis=0)
        unknown = np.flatnonzero(row == len(self._keys[n]))
        if n and len(unknown):  # (4)
            contexts, shorter = self._parts(n, keys[unknown])
            out[unknown] = self._rests[n - 1].take(contexts, axis=0)
            out[unknown] += self.log_probabilities(shorter, n - 1)
        return out

    def _parts(self, n: int, keys: Integers) -> tuple[Integers, Integers]:
        """For n-grams: the rows of the n - 1 tokens that they begin with, and the keys of the
        n - 1 that they end with.
        """
        return self._rows(n - 1, keys // self.num_tokens), keys % self.num_tokens ** (n - 1)

    def _rows(self, n: int, keys: Integers) -> Integers:
        """The rows of n-grams in the tables; of those that no class keeps, the last."""
        known = self._keys[n]
        row = np.searchsorted(known, keys)
        row[known.take(row, mode="clip") != keys] = len(known)
        return row

    def _tabulate(self) -> None:
        """The tables of (4) from the tree, shorter n-grams first; once, when they are asked for."""
        size = len(self.levels[0].children)
        group, key = np.arange(size), np.zeros(size, dtype=np.int64)
        row = key
        uniform = np.full((1, size), -math.log(self.num_tokens), dtype=np.float32)
        self._keys.append(key[:1])
        self._tables.append(np.vstack([uniform, uniform]))
        for n, level in enumerate(self.levels, 1):
            parent, q = level.parents(), Q.take(level.codes)
            rest = np.zeros((len(self._keys[-1]) + 1, size), dtype=np.float32)
            rest[row, group] = np.log(level.left())
            self._rests.append(rest)
            group, key = group[parent], key[parent] * self.num_tokens + level.tokens
            known, row = np.unique(key, return_inverse=True)
            contexts, shorter = self._parts(n, known)
            lower = rest.take(contexts, axis=0) + self.log_probabilities(shorter, n - 1)
            table = np.exp(lower, dtype=np.float64)
            table[row, group] += q
            self._keys.append(known)
            self._tables.append(np.vstack([np.log(table), uniform]).astype(np.float32))

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        """The tree, the size of the vocabulary and the threshold."""
        size, threshold = np.array([self.num_tokens]), np.array([self.threshold])
        return {**tensors_of(self.levels), "num_tokens": size, "threshold": threshold}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Undo :meth:`to_tensors`; raises :class:`InputError` where it cannot be."""
        numbers = []
        for name, kind in (("num_tokens", np.int64), ("threshold", np.float64)):
            array = tensors.get(name)
            if array is None or array.shape != (1,) or array.dtype != kind:
                raise InputError(f"{name} is missing, or is not one number of {kind.__name__}")
            numbers.append(array.item())
        num_tokens, threshold = numbers
        _require_size(num_tokens)
        return cls(levels_of(tensors, num_tokens), num_tokens, threshold)
