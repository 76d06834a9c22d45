"""Many names to tokens at once, by one look-up for all their characters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Backend, get_backend
from npnlp.text.vectorizer import clean_name
from npnlp.text.vocabulary import SequenceVocabulary

Integers = NDArray[np.integer]


def clean_names(names: Sequence[str]) -> list[str]:
    """:func:`clean_name` of each; ASCII is in composed form as it is."""
    return [name.strip() if name.isascii() else clean_name(name) for name in names]


def code_points(text: str) -> NDArray[np.uint32]:
    """The number that Unicode gives each character."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def encode_names(
    cleaned: Sequence[str], vocab: SequenceVocabulary, backend: Backend | None = None
) -> tuple[Integers, Integers]:
    """As :meth:`SurnameVectorizer.vectorize_many`, of names that are clean."""
    points = code_points("".join(cleaned))
    kind = np.min_scalar_type(len(vocab))
    table = np.full(int(points.max(initial=0)) + 1, vocab.unk_index, dtype=kind)
    for token, index in vocab.to_serializable()["token_to_idx"].items():
        if len(token) == 1 and ord(token) < len(table):
            table[ord(token)] = index
    sizes = np.fromiter(map(len, cleaned), dtype=np.int64, count=len(cleaned))
    around = vocab.begin_seq_index, vocab.end_seq_index
    return (backend or get_backend()).encode(points, sizes, table, around), sizes + 2


def characters_of(names: Sequence[str]) -> str:
    """All characters of some names, each once, in the order of their numbers."""
    points = np.flatnonzero(np.bincount(code_points("".join(names))))
    return "".join(map(chr, points.tolist()))
