"""Many texts as one row of bytes, so that what is done to all of them is done at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Self

import numpy as np
from numpy.typing import NDArray

from npnlp.summary import summarized

Integers = NDArray[np.int64]
#: Texts that are worked on at once: what is made of them on the way takes some megabytes.
BLOCK = 2**15
#: Bytes that are compared at once.
WORD = 8


@summarized
@dataclass(frozen=True, eq=False)
class Texts:
    """n texts one after another in UTF-8: text i is ``content[ends[i - 1]:ends[i]]``."""

    content: NDArray[np.uint8]
    ends: Integers

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Those of a list, or of what else is walked over once."""
        walk, made = iter(texts), []
        while some := list(islice(walk, BLOCK)):
            made.append(cls._joined("".join(some), np.fromiter(map(len, some), np.int64)))
        return cls.one_after_another(made)

    @classmethod
    def _joined(cls, text: str, lengths: Integers) -> Self:
        """``lengths`` are numbers of characters."""
        content = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
        ends = np.cumsum(lengths)
        if len(content) > len(text):
            ends = np.append(np.flatnonzero(_begins(content)), len(content))[ends]
        return cls(content, ends)

    @classmethod
    def one_after_another(cls, parts: Sequence[Texts]) -> Self:
        """The texts of all ``parts``."""
        content = np.concatenate([part.content for part in parts] or [np.empty(0, np.uint8)])
        ends = np.concatenate([part.ends for part in parts] or [np.empty(0, np.int64)])
        first = before = 0
        for part in parts:
            ends[first : first + len(part)] += before
            first, before = first + len(part), before + len(part.content)
        return cls(content, ends)

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def starts(self) -> Integers:
        """Where each text begins."""
        return np.concatenate([[0], self.ends[:-1]]) if len(self) else self.ends

    @cached_property
    def text(self) -> str:
        """All texts, joined."""
        return self.content.tobytes().decode("utf-8", "surrogatepass")

    @property
    def lengths(self) -> Integers:
        """The number of characters of each."""
        ends = self.ends
        if len(self.text) < len(self.content):
            ends = np.concatenate([[0], np.cumsum(_begins(self.content))])[ends]
        return np.diff(ends, prepend=0)

    def blocks(self) -> Iterator[Texts]:
        """The same texts, :data:`BLOCK` at a time."""
        for first in range(0, len(self), BLOCK):
            start = int(self.ends[first - 1]) if first else 0
            ends = self.ends[first : first + BLOCK]
            yield Texts(self.content[start : ends[-1]], ends - start)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self.lists())

    def lists(self) -> Iterator[list[str]]:
        """As lists of :data:`BLOCK` texts."""
        for block in self.blocks():
            text, ends = block.text, np.cumsum(block.lengths).tolist()
            yield [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def take(self, rows: NDArray[np.integer]) -> Texts:
        """Those of ``rows``, in their order."""
        starts, parts = self.starts, []
        for first in range(0, len(rows), BLOCK):
            some = rows[first : first + BLOCK]
            begin, sizes = starts[some], self.ends[some] - starts[some]
            ends = np.cumsum(sizes)
            places = np.arange(ends[-1]) + np.repeat(begin - (ends - sizes), sizes)
            parts.append(Texts(self.content.take(places), ends))
        return Texts.one_after_another(parts)

    def characters(self) -> dict[str, None]:
        """The different characters, in the order in which they appear."""
        found: dict[str, None] = {}
        for block in self.blocks():
            points = np.flatnonzero(np.bincount(code_points(block.text)))
            new = [character for character in map(chr, points.tolist()) if character not in found]
            found |= dict.fromkeys(sorted(new, key=block.text.index))
        return found

    @cached_property
    def ids(self) -> NDArray[np.int32]:
        """A number for each text, the same for the same text, in the texts' order."""
        return self.order()[1]

    def order(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The rows in the order of their texts, by code points, and the rank of each row's text.

        Equal texts have one rank, from 0 on. Of all rows the first eight bytes are compared, then
        the next eight of those that are still equal.
        """
        starts = self.starts
        sizes = (self.ends - starts).astype(np.int32)
        padded = np.append(self.content, np.zeros(WORD, dtype=np.uint8))
        order = np.arange(len(self), dtype=np.int32)
        group = np.zeros(len(self), dtype=np.int32)
        places, depth = order.copy(), 0  # those in ``order`` of rows that are not told apart yet
        while len(places):
            rows = order[places]
            word = _words(padded, starts[rows] + depth, sizes[rows] - depth)
            # Beside zero bytes of its own, a text that has ended is known by its size.
            ended = np.minimum(sizes[rows] - depth, WORD + 1).astype(np.uint8)
            new = np.lexsort((ended, word, group[places])).astype(np.int32)
            order[places], ended = rows[new], ended[new]
            differs = np.ones(len(places), dtype=bool)
            for key in (group[places], word[new], ended):
                differs[1:] &= key[1:] == key[:-1]
            np.logical_not(differs[1:], out=differs[1:])
            group[places] = places[np.maximum.accumulate(np.arange(len(places)) * differs)]
            depth += WORD
            alone = differs & np.append(differs[1:], True)
            places = places[~alone & (ended > WORD)]
        rank = np.empty(len(self), dtype=np.int32)
        rank[order] = np.cumsum(np.append(False, group[1:] != group[:-1])[: len(self)])
        return order, rank


def code_points(text: str) -> NDArray[np.uint32]:
    """The Unicode code point of each character."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _begins(content: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether a character begins at each byte."""
    begins: NDArray[np.bool_] = (content & 0xC0) != 0x80
    return begins


def _words(padded: NDArray[np.uint8], at: Integers, left: NDArray[np.int32]) -> NDArray[np.uint64]:
    """The eight bytes from each place on as one number, zero where a text has fewer ``left``."""
    word = np.zeros(len(at), dtype=np.uint64)
    for k in range(WORD):
        word <<= np.uint64(8)
        word |= padded.take(at + k, mode="clip") * (left > k)
    return word
