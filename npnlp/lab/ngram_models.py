"""Interpolated character n-gram models of any order, in dictionaries, as they are defined.

With a context h and h' without its first character, counts c and N(h) the number of different
characters after h:

    Witten and Bell:  P(w | h) = (c(hw) + N(h) P(w | h')) / (sum over w of c(hw) + N(h))
    Kneser and Ney:   P(w | h) = (c(hw) - D + D N(h) P(w | h')) / sum over w of c(hw),

without ``c(hw) - D`` where c(hw) = 0. There, below the highest order, c counts the different
characters that stand before hw, and ``D = (n_1 + 1) / (n_1 + 2 n_2 + 2)`` for each order. P of no
context is 1 / ``size``. A begin stands before a name ``order - 1`` times, an end after it.
:mod:`npnlp.text.ngram_counts` has the same of trigrams, for many names.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

BEGIN, END = "\x02", "\x03"


class NgramModel:
    """A model of names; ``kneser_ney`` is the one, else it is Witten and Bell's."""

    def __init__(
        self, names: Iterable[str], order: int, size: int, kneser_ney: bool = True
    ) -> None:
        self.order, self.size, self.kneser_ney = order, size, kneser_ney
        counts: list[Counter[str]] = [Counter() for _ in range(order)]
        for name in names:
            text = self._padded(name)
            for end in range(order, len(text) + 1):
                for n in range(order):
                    counts[n][text[end - n - 1 : end]] += 1
        if kneser_ney:
            for n in range(order - 1, 0, -1):
                counts[n - 1] = Counter(ngram[1:] for ngram in counts[n])
        self.counts = counts
        self.totals: list[Counter[str]] = [Counter() for _ in range(order)]
        self.kinds: list[Counter[str]] = [Counter() for _ in range(order)]
        self.discounts = []
        for n, of_order in enumerate(counts):
            for ngram, count in of_order.items():
                self.totals[n][ngram[:-1]] += count
                self.kinds[n][ngram[:-1]] += 1
            frequency = Counter(of_order.values())
            self.discounts.append((frequency[1] + 1) / (frequency[1] + 2 * frequency[2] + 2))

    def _padded(self, name: str) -> str:
        return BEGIN * (self.order - 1) + name + END

    def probability(self, character: str, context: str) -> float:
        """P of a character after a context."""
        p = 1 / self.size
        for n in range(min(self.order - 1, len(context)) + 1):
            of_order = context[len(context) - n :]
            total, kinds = self.totals[n][of_order], self.kinds[n][of_order]
            count, discount = self.counts[n][of_order + character], self.discounts[n]
            if not total:
                break
            if self.kneser_ney:
                p = (max(count - discount, 0) + discount * kinds * p) / total
            else:
                p = (count + kinds * p) / (total + kinds)
        return p

    def log_probabilities(self, name: str) -> NDArray[np.float64]:
        """log P of each character of a name, and of its end."""
        text, before = self._padded(name), self.order - 1
        return np.array([math.log(self.probability(text[t], text[t - before : t]))
                         for t in range(before, len(text))])  # fmt: skip

    def known_orders(self, name: str) -> NDArray[np.int64]:
        """For each character of a name, and its end, the longest n-gram ending there that occurs.

        0 for a character that does not occur.
        """
        text, before = self._padded(name), self.order - 1
        return np.array([
            max((n + 1 for n in range(self.order) if text[t - n : t + 1] in self.counts[n]),
                default=0)
            for t in range(before, len(text))
        ])  # fmt: skip
