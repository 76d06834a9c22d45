"""Vocabularies and the vectorizer."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npnlp.errors import InputError
from npnlp.text import SequenceVocabulary, SurnameVectorizer, Vocabulary, clean_name
from tests.support.tables import frame_of, small_rows

SPECIAL = ("<MASK>", "<UNK>", "<BEGIN>", "<END>")
COMPOSED, DECOMPOSED = "Ren\u00e9", "Rene\u0301"


def vectorizer_of(*pairs: tuple[str, str]) -> SurnameVectorizer:
    return SurnameVectorizer.from_dataframe(pd.DataFrame(pairs, columns=["surname", "nationality"]))


def serialized() -> dict[str, Any]:
    return vectorizer_of(("Anna", "Italian"), ("Bo", "Greek")).to_serializable()


def test_tokens_are_numbered_in_order_of_appearance() -> None:
    vocabulary = Vocabulary()
    assert vocabulary.add_many(["b", "a", "b", "c"]) == [0, 1, 0, 2]
    assert vocabulary.tokens == ["b", "a", "c"]
    assert len(vocabulary) == 3


def test_numbers_and_tokens_are_two_ways_of_one_map() -> None:
    vocabulary = Vocabulary({"x": 1, "y": 0})
    assert [vocabulary.lookup_token(vocabulary.lookup_index(i)) for i in (0, 1)] == [0, 1]
    assert "x" in vocabulary
    assert "z" not in vocabulary


def test_a_new_token_follows_loaded_ones() -> None:
    assert Vocabulary({"x": 1, "y": 0}).add_token("z") == 2


def test_a_plain_vocabulary_does_not_know_unknown_tokens() -> None:
    with pytest.raises(KeyError):
        Vocabulary({"x": 0}).lookup_token("z")


def test_an_index_outside_says_how_many_there_are() -> None:
    with pytest.raises(KeyError, match=r"index 7 .* 1 tokens"):
        Vocabulary({"x": 0}).lookup_index(7)


@pytest.mark.parametrize("mapping", [{"a": 1}, {"a": 0, "b": 0}, {"a": 0, "b": 2}, {"a": -1}])
def test_numbers_with_a_gap_or_twice_are_refused(mapping: dict[str, int]) -> None:
    with pytest.raises(InputError, match="token_to_idx"):
        Vocabulary(mapping)


def test_the_mapping_given_is_not_changed() -> None:
    mapping = {"a": 0}
    Vocabulary(mapping).add_token("b")
    assert mapping == {"a": 0}


def test_special_tokens_are_zero_to_three() -> None:
    vocabulary = SequenceVocabulary()
    assert vocabulary.tokens == list(SPECIAL)
    assert vocabulary.mask_index == 0
    assert vocabulary.unk_index == 1
    assert vocabulary.begin_seq_index == 2
    assert vocabulary.end_seq_index == 3


def test_an_unknown_token_becomes_unk() -> None:
    vocabulary = SequenceVocabulary()
    vocabulary.add_many("ab")
    assert vocabulary.lookup_token("z") == vocabulary.unk_index == 1
    assert vocabulary.lookup_token("b") == 5


def test_special_tokens_keep_other_numbers_when_loaded() -> None:
    tokens = {"a": 0, "<END>": 1, "<BEGIN>": 2, "<UNK>": 3, "<MASK>": 4}
    vocabulary = SequenceVocabulary(tokens)
    assert len(vocabulary) == 5
    assert (vocabulary.mask_index, vocabulary.unk_index) == (4, 3)
    assert vocabulary.lookup_token("?") == 3


def test_special_tokens_may_have_other_names() -> None:
    vocabulary = SequenceVocabulary(mask_token="#", unk_token="?")
    assert vocabulary.lookup_index(0) == "#"
    assert vocabulary.lookup_index(1) == "?"
    assert SequenceVocabulary.from_serializable(vocabulary.to_serializable()).unk_index == 1


def test_serialized_layout_is_that_of_the_book() -> None:
    contents = serialized()
    assert set(contents) == {"char_vocab", "nationality_vocab", "seen"}  # the last is optional
    assert set(contents["char_vocab"]) == {
        "token_to_idx", "unk_token", "mask_token", "begin_seq_token", "end_seq_token",
    }  # fmt: skip
    assert contents["char_vocab"]["token_to_idx"] == {
        "<MASK>": 0, "<UNK>": 1, "<BEGIN>": 2, "<END>": 3, "A": 4, "n": 5, "a": 6, "B": 7, "o": 8,
    }  # fmt: skip
    assert contents["nationality_vocab"] == {"token_to_idx": {"Italian": 0, "Greek": 1}}


def test_round_trip_through_json() -> None:
    contents = serialized()
    again = SurnameVectorizer.from_serializable(json.loads(json.dumps(contents)))
    assert again.to_serializable() == contents
    assert list(again.vectorize("Bona")[0]) == [2, 7, 8, 5, 6, 3]
    assert again.nationality_vocab.lookup_index(1) == "Greek"


def test_serialized_values_are_a_copy() -> None:
    vectorizer = vectorizer_of(("Anna", "Italian"))
    vectorizer.to_serializable()["char_vocab"]["token_to_idx"]["z"] = 99
    assert "z" not in vectorizer.char_vocab


@given(st.lists(st.text(min_size=1, max_size=5), max_size=8))
def test_any_tokens_survive_json(tokens: list[str]) -> None:
    vocabulary = SequenceVocabulary()
    vocabulary.add_many(tokens)
    text = json.dumps(vocabulary.to_serializable())
    again = SequenceVocabulary.from_serializable(json.loads(text))
    assert again.tokens == vocabulary.tokens


@pytest.mark.parametrize(
    "contents",
    [
        None,
        [],
        "text",
        {},
        {"token_to_idx": None},
        {"token_to_idx": ["a"]},
        {"token_to_idx": {"a": "0"}},
        {"token_to_idx": {"a": 0.0}},
        {"token_to_idx": {"a": True}},
        {"token_to_idx": {"a": 1}},
        {"token_to_idx": {0: 0}},
        {"token_to_idx": {"a": 0}, "colour": "red"},
        {"token_to_idx": {"a": 0}, "self": "red"},
    ],
)
@pytest.mark.parametrize("kind", [Vocabulary, SequenceVocabulary])
def test_a_damaged_vocabulary_is_refused(kind: type[Vocabulary], contents: Any) -> None:
    with pytest.raises(InputError):
        kind.from_serializable(contents)


@pytest.mark.parametrize("value", [None, 5, ["<UNK>"], {}])
def test_a_special_token_that_is_no_text_is_refused(value: Any) -> None:
    contents = serialized()["char_vocab"] | {"unk_token": value}
    with pytest.raises(InputError):
        SequenceVocabulary.from_serializable(contents)


def test_two_special_tokens_in_one_are_refused() -> None:
    contents = serialized()["char_vocab"] | {"unk_token": "<MASK>"}
    with pytest.raises(InputError):
        SequenceVocabulary.from_serializable(contents)


def test_a_special_token_that_has_no_number_is_refused() -> None:
    contents = serialized()["char_vocab"] | {"unk_token": "<other>"}
    with pytest.raises(InputError):
        SequenceVocabulary.from_serializable(contents)


@pytest.mark.parametrize("name", ["char_vocab", "nationality_vocab"])
@pytest.mark.parametrize("value", [None, [], "text", 3, {}])
def test_a_damaged_vectorizer_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError):
        SurnameVectorizer.from_serializable(serialized() | {name: value})


@pytest.mark.parametrize("name", ["char_vocab", "nationality_vocab"])
def test_a_vectorizer_without_a_vocabulary_names_it(name: str) -> None:
    contents = serialized()
    del contents[name]
    with pytest.raises(InputError, match=name):
        SurnameVectorizer.from_serializable(contents)


@pytest.mark.parametrize("contents", [None, [], "char_vocab nationality_vocab", 3])
def test_a_vectorizer_of_another_type_is_refused(contents: Any) -> None:
    with pytest.raises(InputError):
        SurnameVectorizer.from_serializable(contents)


def test_a_name_stands_between_begin_and_end() -> None:
    vector, length = vectorizer_of(("ab", "X")).vectorize("ba")
    assert list(vector) == [2, 5, 4, 3]
    assert length == 4
    assert vector.dtype == np.int64


def test_unknown_characters_of_a_name_become_unk() -> None:
    vector, _ = vectorizer_of(("ab", "X")).vectorize("azb\N{GRINNING FACE}")
    assert list(vector) == [2, 4, 1, 5, 1, 3]


@pytest.mark.parametrize(
    ("size", "expected"),
    [(-1, [2, 4, 5, 3]), (0, [2, 4, 5, 3]), (3, [2, 4, 5, 3]), (6, [2, 4, 5, 3, 0, 0])],
)
def test_padding_is_mask_on_the_right(size: int, expected: list[int]) -> None:
    vector, length = vectorizer_of(("ab", "X")).vectorize("ab", size)
    assert list(vector) == expected
    assert length == 4


def test_a_combining_accent_makes_the_same_name() -> None:
    assert COMPOSED != DECOMPOSED
    vectorizer = vectorizer_of((COMPOSED, "French"))
    composed, decomposed = map(vectorizer.vectorize, (COMPOSED, DECOMPOSED))
    assert np.array_equal(composed[0], decomposed[0])
    assert composed[1] == decomposed[1] == 6
    assert 1 not in composed[0]


def test_a_vocabulary_of_decomposed_names_holds_composed_characters() -> None:
    vectorizer = vectorizer_of((DECOMPOSED, "French"))
    assert "\u00e9" in vectorizer.char_vocab
    assert "\u0301" not in vectorizer.char_vocab


def test_blanks_around_a_name_do_not_count() -> None:
    vectorizer = vectorizer_of(("ab", "X"))
    assert list(vectorizer.vectorize("  ab\t")[0]) == [2, 4, 5, 3]


@given(st.text())
def test_cleaning_twice_is_cleaning_once(name: str) -> None:
    once = clean_name(name)
    assert clean_name(once) == once
    assert unicodedata.is_normalized("NFC", once)


def test_many_names_lie_one_after_another() -> None:
    vectorizer = vectorizer_of(("abc", "X"))
    tokens, lengths = vectorizer.vectorize_many(["a", "cb", "abc"])
    assert list(lengths) == [3, 4, 5]
    assert list(tokens) == [2, 4, 3, 2, 6, 5, 3, 2, 4, 5, 6, 3]


def test_no_names_are_no_numbers() -> None:
    tokens, lengths = vectorizer_of(("abc", "X")).vectorize_many([])
    assert tokens.shape == lengths.shape == (0,)
    assert tokens.dtype == lengths.dtype == np.int64


def test_vocabularies_of_a_frame_hold_what_occurs_and_no_more() -> None:
    vectorizer = SurnameVectorizer.from_dataframe(frame_of(small_rows()))
    characters = {c for _, _, name in small_rows() for c in name}
    assert set(vectorizer.char_vocab.tokens) == characters | set(SPECIAL)
    assert vectorizer.nationality_vocab.tokens == ["Italian", "Russian", "Japanese"]


@pytest.mark.parametrize("column", ["surname", "nationality"])
@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_frame_with_a_missing_value_is_refused(column: str, value: Any) -> None:
    frame = frame_of(small_rows()).astype(object)
    frame.loc[3, column] = value
    with pytest.raises(InputError, match=column):
        SurnameVectorizer.from_dataframe(frame)
