"""Names in parts: where they are split, what their parts say together, which way is chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from npnlp.errors import InputError
from npnlp.text import SurnameVectorizer
from npnlp.text.parts import BETWEEN, EVERYWHERE, Parts, choose_split_at, in_parts, parts_of
from tests.support.tables import frame_of, small_rows

ALL = {"hyphens": EVERYWHERE, "spaces": EVERYWHERE, "apostrophes": EVERYWHERE}
NAMES = {"hyphens": BETWEEN, "spaces": BETWEEN, "apostrophes": BETWEEN}


@pytest.mark.parametrize(
    ("name", "everywhere", "between"),
    [
        ("Garcia-Lopez", ["Garcia", "Lopez"], ["Garcia", "Lopez"]),
        ("Garcia\N{NON-BREAKING HYPHEN}Lopez", ["Garcia", "Lopez"], ["Garcia", "Lopez"]),
        ("Garcia - Lopez", ["Garcia", "Lopez"], ["Garcia", "Lopez"]),
        ("van der Berg", ["van", "der", "Berg"], ["van der Berg"]),
        ("Van der Berg-de la Cruz", ["Van", "der", "Berg", "de", "la", "Cruz"],
         ["Van der Berg", "de la Cruz"]),
        ("O'Brien", ["O", "Brien"], ["O'Brien"]),
        ("Van 't Hof", ["Van", "t", "Hof"], ["Van 't Hof"]),
        ("St. John", ["St.", "John"], ["St. John"]),
        ("Berg van", ["Berg", "van"], ["Berg", "van"]),
        ("Nakamoto", ["Nakamoto"], ["Nakamoto"]),
        ("Garcia-", ["Garcia-"], ["Garcia-"]),  # not two parts with a letter: read whole
        (" -- ", [" -- "], [" -- "]),
        ("", [""], [""]),
    ],
)  # fmt: skip
def test_where_a_name_is_split(name: str, everywhere: list[str], between: list[str]) -> None:
    assert parts_of(name, ALL) == everywhere
    assert parts_of(name, NAMES) == between
    assert parts_of(name, {}) == [name]


def test_each_kind_of_separator_by_itself() -> None:
    name = "O'Brien-van Dam"
    assert parts_of(name, {"hyphens": EVERYWHERE}) == ["O'Brien", "van Dam"]
    assert parts_of(name, {"spaces": EVERYWHERE}) == ["O'Brien-van", "Dam"]
    assert parts_of(name, {"spaces": EVERYWHERE, "hyphens": BETWEEN}) == ["O'Brien", "van", "Dam"]


def test_only_names_of_several_parts_are_listed() -> None:
    names = ["Rossi", "Garcia-Lopez", "-", "A B-C", "Verdi-"]
    assert in_parts(names, {"hyphens": EVERYWHERE}) == Parts(
        [1, 3], ["Garcia", "Lopez", "A B", "C"], [0, 2]
    )
    assert in_parts(["Rossi", "A B"], {"hyphens": EVERYWHERE}) is None
    assert in_parts(["Verdi-"], {"hyphens": EVERYWHERE}) is None
    assert in_parts(names, {}) is in_parts([], ALL) is None


def test_the_parts_together_are_the_mean_of_logarithms_by_length() -> None:
    said = np.array([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1], [0.25, 0.75], [1.0, 0.0]])
    parts = Parts([0, 4], ["ab", "abcd", "a", "bcd", "ab"], [0, 2])
    first = np.array([0.5**2 * 0.2**4, 0.5**2 * 0.8**4]) ** (1 / 6)
    second = np.array([0.9 * 0.25**3, 0.0])
    expected = [first / first.sum(), second / second.sum()]
    np.testing.assert_allclose(parts.averaged(said), expected, atol=1e-12)
    assert parts.averaged(said.astype(np.float32)).dtype == np.float32
    said[2, 0] = np.nan
    assert np.isnan(parts.averaged(said)).any(axis=1).tolist() == [False, True]


def predicted_by(labels: Mapping[str, str]) -> Any:
    """A model that knows some names and is wrong on all others, whole or in parts."""

    def predict(names: list[str], split_at: Mapping[str, str]) -> list[str]:
        said = [{labels.get(part, "?") for part in parts_of(name, split_at)} for name in names]
        return [each.pop() if len(each) == 1 else "?" for each in said]

    return predict


def test_what_is_chosen_follows_from_what_is_right() -> None:
    names, labels = ["Rossi", "Verdi", "Ivanov", "Petrov"], ["I", "I", "R", "R"]
    known = dict(zip(names, labels, strict=True))
    assert choose_split_at(names, labels, predicted_by(known)) == {
        "hyphens": EVERYWHERE, "spaces": EVERYWHERE,
    }  # fmt: skip
    nobody = predicted_by({})
    assert choose_split_at(names, labels, nobody) == choose_split_at([], [], nobody) == {}
    alone = ["Rossi", "Ivanov"]  # of a class of one name there is no pair
    assert choose_split_at(alone, ["I", "R"], predicted_by(known)) == {}


def test_names_as_they_are_lose_next_to_nothing() -> None:
    """A model that has learned particles keeps them; one that has learned pairs reads no parts."""
    names, labels = ["Van Dam", "Van Berg", "Rossi", "Verdi"], ["D", "D", "I", "I"]
    known = dict(zip(names, labels, strict=True))
    chosen = choose_split_at(names, labels, predicted_by(known))
    assert chosen == {"hyphens": EVERYWHERE, "spaces": BETWEEN}
    names[0] = "Ou Yang"
    known["Ou Yang"] = "D"
    assert choose_split_at(names, labels, predicted_by(known)) == {"hyphens": EVERYWHERE}
    many = names + ["Rossi"] * 196  # one of 200 may be lost
    chosen = choose_split_at(many, labels + ["I"] * 196, predicted_by(known))
    assert chosen == {"hyphens": EVERYWHERE, "spaces": BETWEEN}


def test_apostrophes_are_chosen_by_real_names_alone() -> None:
    known = {"Amore": "I", "D": "I", "Rossi": "I"}
    chosen = choose_split_at(["D'Amore", "Rossi"], ["I", "I"], predicted_by(known))
    assert chosen == {"apostrophes": EVERYWHERE}
    chosen = choose_split_at(["Verdi", "Rossi"], ["I", "I"], predicted_by(known))
    assert "apostrophes" not in chosen


def vectorizer() -> SurnameVectorizer:
    return SurnameVectorizer.from_dataframe(frame_of(small_rows()))


def test_what_is_stored_comes_back_and_files_without_it_read_whole() -> None:
    made = vectorizer()
    assert made.parts_as_read("Ram-Bel") == ["Ram-Bel"]
    made.split_at, made.letter_case = {"hyphens": EVERYWHERE, "spaces": BETWEEN}, "title"
    said = json.loads(json.dumps(made.to_serializable()))
    again = SurnameVectorizer.from_serializable(said)
    assert again.split_at == made.split_at
    assert again.parts_as_read("RAM-bel") == ["Ram", "Bel"]
    assert SurnameVectorizer.from_serializable(made.vocabularies()).split_at == {}
    assert "split_at" not in vectorizer().to_serializable()


@pytest.mark.parametrize(
    "value",
    [None, 3, "hyphens", ["hyphens"], {"dashes": EVERYWHERE}, {"hyphens": "nowhere"},
     {"hyphens": True}, {"hyphens": {}}],
)  # fmt: skip
def test_what_is_damaged_is_named(value: Any) -> None:
    with pytest.raises(InputError, match="split_at"):
        SurnameVectorizer.from_serializable(vectorizer().vocabularies() | {"split_at": value})
