"""Names become sequences of numbers, nationalities become classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError, short
from npnlp.files.plain_json import parse_json, require_version
from npnlp.text.content import read_bytes
from npnlp.text.vocabulary import SequenceVocabulary, Vocabulary

if TYPE_CHECKING:
    import pandas as pd

#: Bytes of ``vectorizer.json``; that of every character there is has some 2 million.
LARGEST_VECTORIZER = 2**24
#: What ``vectorizer.json`` is; the file does not say so, but that of a later program may.
FORMAT_VERSION = 1
#: Putting marks in order takes the square of how many stand in a row. No script needs more than
#: 30 (Unicode Standard Annex 15, section 13); it is counted only where it could take long.
MOST_MARKS, LONG = 30, 1000


def clean_name(name: str) -> str:
    """The name in Unicode's composed form (NFC), without blanks around it.

    So that one name has one spelling: é is one character, whether it came as one or as e and an
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


def require_text(frame: pd.DataFrame, columns: Iterable[str]) -> None:
    """Raise :class:`InputError` naming a column that is missing, or a row of it without text."""
    for name in columns:
        if name not in frame:
            raise InputError(f"column {name!r} is missing; the frame has {list(frame)}")
        for row, value in frame[name].items():
            if not isinstance(value, str) or not value.strip():
                raise InputError(
                    f"column {name}, row {row!r}: {value!r} is no text; fill it or drop the row"
                )


class SurnameVectorizer:
    """The two vocabularies, and how a name becomes numbers with them."""

    def __init__(self, char_vocab: SequenceVocabulary, nationality_vocab: Vocabulary) -> None:
        self.char_vocab = char_vocab
        self.nationality_vocab = nationality_vocab

    def __repr__(self) -> str:
        characters, nationalities = len(self.char_vocab), len(self.nationality_vocab)
        name = type(self).__name__
        return f"<{name} of {characters} characters and {nationalities} nationalities>"

    def vectorize(self, surname: str, vector_length: int = -1) -> tuple[NDArray[np.int64], int]:
        """The numbers of ``<BEGIN>``, each character and ``<END>``, and how many there are.

        A ``vector_length`` above that pads with ``mask_index`` on the right. An unknown character
        becomes ``unk_index``.
        """
        vocab = self.char_vocab
        indices = [
            vocab.begin_seq_index,
            *map(vocab.lookup_token, clean_name(surname)),
            vocab.end_seq_index,
        ]
        vector = np.full(max(vector_length, len(indices)), vocab.mask_index, dtype=np.int64)
        vector[: len(indices)] = indices
        return vector, len(indices)

    def vectorize_many(
        self, surnames: Iterable[str]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All names one after another in one array, and the length of each."""
        vectors = [self.vectorize(surname)[0] for surname in surnames]
        lengths = np.array([len(vector) for vector in vectors], dtype=np.int64)
        return np.concatenate([*vectors, np.empty(0, dtype=np.int64)]), lengths

    @classmethod
    def from_dataframe(cls, surname_df: pd.DataFrame) -> Self:
        """Vocabularies of a frame with ``surname`` and ``nationality``, in order of appearance.

        Raises :class:`InputError` for a missing column or value.
        """
        require_text(surname_df, ("surname", "nationality"))
        char_vocab, nationality_vocab = SequenceVocabulary(), Vocabulary()
        for surname in surname_df["surname"]:
            char_vocab.add_many(clean_name(surname))
        nationality_vocab.add_many(surname_df["nationality"])
        return cls(char_vocab, nationality_vocab)

    def to_serializable(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "char_vocab": self.char_vocab.to_serializable(),
            "nationality_vocab": self.nationality_vocab.to_serializable(),
        }

    @classmethod
    def from_serializable(cls, contents: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_serializable`; raises :class:`InputError` where it cannot be."""
        for name in ("char_vocab", "nationality_vocab"):
            if not isinstance(contents, Mapping) or name not in contents:
                raise InputError(f"a vectorizer has to hold {name!r}")
        require_version(contents.get("format_version", FORMAT_VERSION), FORMAT_VERSION)
        kinds = {"char_vocab": SequenceVocabulary, "nationality_vocab": Vocabulary}
        vocabularies: dict[str, Any] = {}
        for name, kind in kinds.items():
            try:
                vocabularies[name] = kind.from_serializable(contents[name])
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
        return cls(**vocabularies)


def read_vectorizer(path: str | Path) -> SurnameVectorizer:
    """The vectorizer of a JSON file; raises :class:`InputError` naming the file and the field."""
    path = Path(path)
    try:
        content = read_bytes(path, LARGEST_VECTORIZER)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return SurnameVectorizer.from_serializable(parse_json(content))
    except InputError as error:
        raise InputError(f"{path}: not a vectorizer: {error}") from error
