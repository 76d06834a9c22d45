"""Names become tokens: cleaning them, and encoding many with one look-up."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError, short
from npnlp.text.texts import Texts, code_points
from npnlp.text.vocabulary import SequenceVocabulary

Integers = NDArray[np.integer]
#: Tokens of names, one name after another, and the length of each.
Encoded = tuple[Integers, NDArray[np.int64]]

#: Normalization sorts combining marks in quadratic time. No script needs more than 30 in a row
#: (Unicode Standard Annex 15, section 13); they are counted in long names only.
MOST_MARKS, LONG = 30, 1000
#: Of more names than this only samples are searched for repetitions.
SAMPLE = 1024
#: Text of characters below this one is in composed form (Unicode Standard Annex 15).
COMPOSED = 0x300
BLANKS = np.array([chr(point).isspace() for point in range(COMPOSED)])
#: All blanks that are not ASCII.
OTHER_BLANKS = "".join(map(chr, [0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029]))
OTHER_BLANKS += "\u202f\u205f\u3000"
#: Two blanks, which no clean name has at its ends.
BEGIN, END = "\r", "\n"


def clean_name(name: str) -> str:
    """The name in Unicode's composed form (NFC), without blanks around it.

    Each name then has one spelling: é is one character, also where it was written as e and an
    accent. Raises :class:`InputError` for a long name with more than 30 combining marks in a row.
    """
    if len(name) > LONG and not name.isascii():
        _require_few_marks(name)
    return unicodedata.normalize("NFC", name).strip()


def _require_few_marks(name: str) -> None:
    marks = 0
    for character in name:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > MOST_MARKS:
            raise InputError(f"{short(name)} has over {MOST_MARKS} combining marks in a row")


def clean_names(names: Iterable[str]) -> list[str]:
    """:func:`clean_name` of each; ASCII is in composed form as it is."""
    return [name.strip() if name.isascii() else clean_name(name) for name in names]


def are_clean(names: Texts) -> bool:
    """Whether all are clean names; of those with blanks that are not ASCII it does not say so."""
    sizes = names.ends - names.starts
    ends = names.content.take([names.starts, names.ends - 1], mode="clip")
    if not sizes.all() or BLANKS.take(ends[ends < 0x80]).any() or sizes.max(initial=0) > LONG:
        return False
    text = names.text
    return text.isascii() or (
        unicodedata.is_normalized("NFC", text) and not any(blank in text for blank in OTHER_BLANKS)
    )


def each_once(names: list[str]) -> list[str]:
    """The different names, in order; or all names, where two samples have no repetitions.

    Looking for repetitions takes a tenth of the time of predicting, and gains nothing where there
    are few. One sample is of neighbours, the other evenly spaced.
    """
    samples = names[:SAMPLE], names[:: len(names) // SAMPLE + 1]
    if all(len(set(sample)) == len(sample) for sample in samples):
        return names
    return list(dict.fromkeys(names))


def encode_names(cleaned: Sequence[str], vocab: SequenceVocabulary) -> Encoded:
    """The tokens of clean names, one name after another, and the length of each.

    The tokens of a name are ``<BEGIN>``, its characters and ``<END>``, in the smallest unsigned
    dtype that fits the vocabulary.
    """
    lengths = np.fromiter(map(len, cleaned), dtype=np.int64, count=len(cleaned))
    return _encoded("".join(cleaned), lengths, vocab)


def encode_texts(cleaned: Texts, vocab: SequenceVocabulary) -> Encoded:
    """As :func:`encode_names`."""
    made = [_encoded(block.text, block.lengths, vocab) for block in cleaned.blocks()]
    made = made or [_encoded("", cleaned.ends, vocab)]
    tokens, lengths = map(np.concatenate, zip(*made, strict=True))
    return tokens, lengths


def _encoded(text: str, lengths: NDArray[np.int64], vocab: SequenceVocabulary) -> Encoded:
    """``text`` are the names, joined, and ``lengths`` their numbers of characters."""
    points = code_points(text)
    table = _table(vocab, int(points.max(initial=0)) + 1)
    lengths = lengths + 2
    ends = np.cumsum(lengths)
    tokens = np.empty(int(lengths.sum()), dtype=table.dtype)
    inside = np.ones(len(tokens), dtype=bool)
    inside[ends - lengths] = inside[ends - 1] = False
    tokens[ends - lengths] = vocab.begin_seq_index
    tokens[ends - 1] = vocab.end_seq_index
    tokens[inside] = table.take(points)
    return tokens, lengths


def encode_plain_names(names: Sequence[str], vocab: SequenceVocabulary) -> Encoded | None:
    """As :func:`encode_names`, of names that turn out to be clean already; else None.

    Names are joined by line ends, which become ``<END>`` and ``<BEGIN>``. The names are clean where
    none contains a line end, begins or ends with a blank, or has a character from ``COMPOSED`` on.
    """
    text = f"{BEGIN}{(END + BEGIN).join(names)}{END}"
    # Two bytes a character: both halves of a character that needs four are above COMPOSED.
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
    """The token of each code point below ``size``."""
    table = np.full(size, vocab.unk_index, dtype=np.min_scalar_type(len(vocab)))
    for token, index in vocab.to_serializable()["token_to_idx"].items():
        if len(token) == 1 and ord(token) < size:
            table[ord(token)] = index
    return table


def characters_of(names: Sequence[str]) -> str:
    """The different characters of some names, sorted."""
    points = np.flatnonzero(np.bincount(code_points("".join(names))))
    return "".join(map(chr, points.tolist()))
