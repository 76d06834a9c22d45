"""Many names to tokens at once, by one look-up for all their characters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from npnlp.text.vectorizer import clean_name
from npnlp.text.vocabulary import SequenceVocabulary

Integers = NDArray[np.integer]

#: So many names are looked at for repetitions; of few names all are.
SAMPLE = 1024
#: Text of characters before this one is in composed form as it is (Unicode Standard Annex 15).
COMPOSED = 0x300
BLANKS = np.array([chr(point).isspace() for point in range(COMPOSED)])
#: Two blanks, which no clean name has at its ends.
BEGIN, END = "\r", "\n"


def clean_names(names: Sequence[str]) -> list[str]:
    """:func:`clean_name` of each; ASCII is in composed form as it is."""
    return [name.strip() if name.isascii() else clean_name(name) for name in names]


def each_once(names: list[str]) -> list[str]:
    """The names, each once; or all of them, where a sample of neighbours and one of others differ.

    To look for repetitions takes a tenth of what it takes to predict a name, and where there are
    few of them nothing is gained.
    """
    samples = names[:SAMPLE], names[:: len(names) // SAMPLE + 1]
    if all(len(set(sample)) == len(sample) for sample in samples):
        return names
    return list(dict.fromkeys(names))


def code_points(text: str) -> NDArray[np.uint32]:
    """The number that Unicode gives each character."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def encode_names(cleaned: Sequence[str], vocab: SequenceVocabulary) -> tuple[Integers, Integers]:
    """As :meth:`SurnameVectorizer.vectorize_many`, of names that are clean."""
    points = code_points("".join(cleaned))
    table = _table(vocab, int(points.max(initial=0)) + 1)
    lengths = np.fromiter(map(len, cleaned), dtype=np.int64, count=len(cleaned)) + 2
    ends = np.cumsum(lengths)
    tokens = np.empty(int(lengths.sum()), dtype=table.dtype)
    inside = np.ones(len(tokens), dtype=bool)
    inside[ends - lengths] = inside[ends - 1] = False
    tokens[ends - lengths] = vocab.begin_seq_index
    tokens[ends - 1] = vocab.end_seq_index
    tokens[inside] = table.take(points)
    return tokens, lengths


def encode_plain_names(
    names: Sequence[str], vocab: SequenceVocabulary
) -> tuple[Integers, Integers] | None:
    """As :func:`encode_names`, where names are clean as they are, and seen to be; else None.

    Names are joined by two line ends, which become the tokens of an end and of a beginning. What is
    seen: no name has one inside, or a blank beside it, or a character that another may be put
    together with.
    """
    text = f"{BEGIN}{(END + BEGIN).join(names)}{END}"
    # Two bytes are enough: what needs four has parts that are not below COMPOSED either.
    points = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), dtype="<u2")
    ends = np.flatnonzero(points == ord(END))
    begins = np.concatenate([[0], ends[:-1] + 1])
    if (
        points.max() >= COMPOSED
        or not len(ends) == len(names) == np.count_nonzero(points == ord(BEGIN))
        or BLANKS.take(points.take(begins + 1)).any()
        or BLANKS.take(points.take(ends - 1)).any()
    ):
        return None
    table = _table(vocab, COMPOSED)
    table[ord(BEGIN)], table[ord(END)] = vocab.begin_seq_index, vocab.end_seq_index
    return table.take(points), np.diff(ends, prepend=-1)


def _table(vocab: SequenceVocabulary, size: int) -> Integers:
    """The token of each character up to the number ``size``."""
    table = np.full(size, vocab.unk_index, dtype=np.min_scalar_type(len(vocab)))
    for token, index in vocab.to_serializable()["token_to_idx"].items():
        if len(token) == 1 and ord(token) < size:
            table[ord(token)] = index
    return table


def characters_of(names: Sequence[str]) -> str:
    """All characters of some names, each once, in the order of their numbers."""
    points = np.flatnonzero(np.bincount(code_points("".join(names))))
    return "".join(map(chr, points.tolist()))
