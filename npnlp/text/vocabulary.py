"""Vocabularies: tokens and their indices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from npnlp.errors import InputError, short


class Vocabulary:
    """A two-way map between tokens and the indices 0, 1, 2, ... in order of appearance."""

    #: The fields of a saved vocabulary besides ``token_to_idx``.
    fields: tuple[str, ...] = ()

    def __init__(self, token_to_idx: Mapping[str, int] | None = None) -> None:
        self._token_to_idx = dict(token_to_idx or {})
        self._idx_to_token = {index: token for token, index in self._token_to_idx.items()}
        if set(self._idx_to_token) != set(range(len(self._token_to_idx))):
            raise InputError(
                f"token_to_idx has to number its {len(self._token_to_idx)} tokens 0, 1, 2, ... "
                "without a gap or a repetition"
            )

    def add_token(self, token: str) -> int:
        """The index of ``token``, which is added if it is new."""
        if token not in self._token_to_idx:
            index = len(self._token_to_idx)
            self._token_to_idx[token] = index
            self._idx_to_token[index] = token
        return self._token_to_idx[token]

    def add_many(self, tokens: Iterable[str]) -> list[int]:
        """The indices of ``tokens``, which are added if they are new."""
        return [self.add_token(token) for token in tokens]

    def lookup_token(self, token: str) -> int:
        """The index of ``token``; raises ``KeyError`` if it is unknown."""
        return self._token_to_idx[token]

    def lookup_index(self, index: int) -> str:
        """The token of an index; raises ``KeyError`` if there is none."""
        if index not in self._idx_to_token:
            raise KeyError(f"the index {index} is not in the vocabulary of {len(self)} tokens")
        return self._idx_to_token[index]

    @property
    def tokens(self) -> list[str]:
        """All tokens in the order of their indices."""
        return list(map(self._idx_to_token.__getitem__, range(len(self))))

    def to_serializable(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {"token_to_idx": dict(self._token_to_idx)}

    @classmethod
    def from_serializable(cls, contents: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_serializable`; raises :class:`InputError` where it cannot be."""
        mapping = contents.get("token_to_idx") if isinstance(contents, Mapping) else None
        if not isinstance(mapping, Mapping) or not all(
            isinstance(token, str) and type(index) is int for token, index in mapping.items()
        ):
            raise InputError("a vocabulary has to hold 'token_to_idx': {token: number}")
        options = {name: value for name, value in contents.items() if name != "token_to_idx"}
        unknown = next((name for name in options if name not in cls.fields), None)
        if unknown is not None:
            raise InputError(f"a vocabulary has an unknown field {short(unknown)}")
        return cls(token_to_idx=mapping, **options)

    def __len__(self) -> int:
        return len(self._token_to_idx)

    def __contains__(self, token: object) -> bool:
        return token in self._token_to_idx

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} tokens>"


class SequenceVocabulary(Vocabulary):
    """A vocabulary with the four special tokens of sequences.

    ``mask_index`` is that of padding, ``unk_index`` of unknown tokens, ``begin_seq_index`` and
    ``end_seq_index`` of the tokens before and after each sequence; 0 to 3 in a new vocabulary.
    """

    fields = ("unk_token", "mask_token", "begin_seq_token", "end_seq_token")

    def __init__(
        self,
        token_to_idx: Mapping[str, int] | None = None,
        unk_token: str = "<UNK>",
        mask_token: str = "<MASK>",
        begin_seq_token: str = "<BEGIN>",
        end_seq_token: str = "<END>",
    ) -> None:
        super().__init__(token_to_idx)
        self._special = {
            "unk_token": unk_token,
            "mask_token": mask_token,
            "begin_seq_token": begin_seq_token,
            "end_seq_token": end_seq_token,
        }
        if len(set(self._special.values())) != len(self._special):
            raise InputError(
                f"the special tokens {short(self._special, 300)} have to differ from each other"
            )
        self.mask_index = self.add_token(mask_token)
        self.unk_index = self.add_token(unk_token)
        self.begin_seq_index = self.add_token(begin_seq_token)
        self.end_seq_index = self.add_token(end_seq_token)

    def lookup_token(self, token: str) -> int:
        """The index of ``token``, or ``unk_index`` if it is unknown."""
        return self._token_to_idx.get(token, self.unk_index)

    def to_serializable(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {**super().to_serializable(), **self._special}

    @classmethod
    def from_serializable(cls, contents: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_serializable`; raises :class:`InputError` where it cannot be."""
        if isinstance(contents, Mapping):
            for name, value in contents.items():
                if name != "token_to_idx" and not isinstance(value, str):
                    raise InputError(
                        f"{short(name)} of a vocabulary has to be text; it is {short(value)}"
                    )
        made = super().from_serializable(contents)
        if len(made) != len(contents["token_to_idx"]):
            raise InputError("token_to_idx of a vocabulary lacks one of its special tokens")
        return made
