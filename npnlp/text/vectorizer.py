"""The vectorizer: names become sequences of tokens, nationalities become classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError, require_known
from npnlp.files.plain_json import parse_json, require_version
from npnlp.text.content import read_bytes
from npnlp.text.encoding import Encoded, are_clean, clean_names, encode_names, encode_texts
from npnlp.text.given import as_texts
from npnlp.text.letter_case import AS_WRITTEN, LETTER_CASES, Seen
from npnlp.text.parts import AS_A_WHOLE, SplitAt, checked_split_at, parts_of
from npnlp.text.rows import Rows
from npnlp.text.texts import Texts
from npnlp.text.vocabulary import SequenceVocabulary, Vocabulary

if TYPE_CHECKING:
    import pandas as pd

#: ``vectorizer.json`` has at most this many bytes; with all of Unicode it has some 2 million.
LARGEST_VECTORIZER = 2**24
#: The version of ``vectorizer.json``, which only files of later versions may name.
FORMAT_VERSION = 1


class SurnameVectorizer:
    """The vocabularies of characters and of nationalities, and the encoding of names.

    ``letter_case``, one of :data:`npnlp.text.letter_case.LETTER_CASES`, is the one that names are
    read in; ``split_at``, see :mod:`npnlp.text.parts`, says where a :class:`Classifier`
    splits them; ``seen`` says what the names of training look like, where that is known.
    """

    letter_case: str = AS_WRITTEN
    split_at: SplitAt = AS_A_WHOLE
    seen: Seen | None = None

    def __init__(self, char_vocab: SequenceVocabulary, nationality_vocab: Vocabulary) -> None:
        self.char_vocab = char_vocab
        self.nationality_vocab = nationality_vocab

    def __repr__(self) -> str:
        characters, nationalities = len(self.char_vocab), len(self.nationality_vocab)
        name = type(self).__name__
        return f"<{name} of {characters} characters and {nationalities} nationalities>"

    def as_read(self, surnames: Iterable[str]) -> list[str]:
        """Names as the model reads them: clean, and in its letter case."""
        return LETTER_CASES[self.letter_case](clean_names(surnames))

    def parts_as_read(self, surname: str) -> list[str]:
        """The parts that a name is read in, as :meth:`as_read` gives each."""
        return self.as_read(parts_of(surname, self.split_at))

    def tokens_of(self, read: str) -> list[int]:
        """The tokens of a name that :meth:`as_read` gave."""
        vocab = self.char_vocab
        return [vocab.begin_seq_index, *map(vocab.lookup_token, read), vocab.end_seq_index]

    def vectorize(self, surname: str, vector_length: int = -1) -> tuple[NDArray[np.int64], int]:
        """The tokens of ``<BEGIN>``, each character and ``<END>``, and their number.

        The vector is padded with ``mask_index`` to ``vector_length``. An unknown character becomes
        ``unk_index``.
        """
        indices = self.tokens_of(*self.as_read([surname]))
        length, mask = max(vector_length, len(indices)), self.char_vocab.mask_index
        vector = np.full(length, mask, dtype=np.int64)
        vector[: len(indices)] = indices
        return vector, len(indices)

    def vectorize_many(
        self, surnames: Iterable[str]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The tokens of all names, one name after another, and the length of each."""
        read = self.as_read(as_texts("surnames", surnames))
        tokens, lengths = encode_names(read, self.char_vocab)
        return tokens.astype(np.int64), lengths.astype(np.int64)

    def encode(self, surnames: Texts) -> Encoded:
        """The same, of the smallest dtypes."""
        plain = self.letter_case == AS_WRITTEN
        read = [
            block if plain and are_clean(block) else Texts.of(self.as_read(block))
            for block in surnames.blocks()
        ]
        return encode_texts(Texts.one_after_another(read), self.char_vocab)

    @classmethod
    def from_dataframe(cls, surname_df: pd.DataFrame) -> Self:
        """Vocabularies of a frame with ``surname`` and ``nationality``, in order of appearance.

        Raises :class:`InputError` for a missing column or value.
        """
        return cls.of(Rows.of(surname_df))

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """Vocabularies of rows, in order of appearance."""
        read = [
            block if are_clean(block) else Texts.of(clean_names(block))
            for block in rows.names.blocks()
        ]
        names = Texts.one_after_another(read)
        made = cls(SequenceVocabulary(), Vocabulary())
        made.char_vocab.add_many(names.characters())
        _, first = np.unique(rows.labels.codes, return_index=True)
        codes = rows.labels.codes[np.sort(first)].tolist()
        made.nationality_vocab.add_many(map(rows.labels.values.__getitem__, codes))
        made.seen = Seen.of(names)
        return made

    def vocabularies(self) -> dict[str, Any]:
        """Both as plain values, as the notebook's ``vectorizer.json`` has them."""
        return {
            "char_vocab": self.char_vocab.to_serializable(),
            "nationality_vocab": self.nationality_vocab.to_serializable(),
        }

    def to_serializable(self) -> dict[str, Any]:
        """As plain values, for JSON: the vocabularies, and the rest where it is there."""
        contents = self.vocabularies()
        if self.letter_case != AS_WRITTEN:
            contents["letter_case"] = self.letter_case
        if self.split_at:
            contents["split_at"] = dict(self.split_at)
        if self.seen is not None:
            contents["seen"] = self.seen.to_serializable()
        return contents

    @classmethod
    def from_serializable(cls, contents: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_serializable`; raises :class:`InputError` where it cannot be."""
        kinds = {"char_vocab": SequenceVocabulary, "nationality_vocab": Vocabulary}
        for name in kinds:
            if not isinstance(contents, Mapping) or name not in contents:
                raise InputError(f"a vectorizer has to hold {name!r}")
        require_version(contents.get("format_version", FORMAT_VERSION), FORMAT_VERSION)
        vocabularies: dict[str, Any] = {}
        for name, kind in kinds.items():
            try:
                vocabularies[name] = kind.from_serializable(contents[name])
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
        made = cls(**vocabularies)
        made.letter_case = contents.get("letter_case", AS_WRITTEN)
        require_known("letter_case", made.letter_case, LETTER_CASES)
        made.split_at = checked_split_at(contents.get("split_at", {}))
        if "seen" in contents:
            made.seen = Seen.from_serializable(contents["seen"])
        return made


def read_vectorizer(path: str | Path) -> SurnameVectorizer:
    """The vectorizer of a JSON file; raises :class:`InputError` naming the file and the field."""
    path = Path(path)
    content = read_bytes(path, LARGEST_VECTORIZER)
    try:
        return SurnameVectorizer.from_serializable(parse_json(content))
    except InputError as error:
        raise InputError(f"{path}: not a vectorizer: {error}") from error
