"""Letter case: how names are read, which way is chosen, and what is unlike those of training."""

from __future__ import annotations

import json
from typing import Any

import pytest

from npnlp.errors import InputError
from npnlp.text import SurnameVectorizer
from npnlp.text.letter_case import AS_WRITTEN, LETTER_CASES, Seen, choose_letter_case
from tests.support.tables import frame_of, small_rows

TITLE = {
    "NAKAMOTO": "Nakamoto",
    "nakamoto": "Nakamoto",
    "McMahan": "McMahan",  # as it is written
    "Nakamoto": "Nakamoto",
    "O'NEILL": "O'Neill",
    "o\N{RIGHT SINGLE QUOTATION MARK}neill": "O\N{RIGHT SINGLE QUOTATION MARK}Neill",
    "SAINT-EXUP\u00c9RY": "Saint-Exup\u00e9ry",
    "DE LA CRUZ": "De La Cruz",
    "\u015eAH\u0130N": "\u015eahin",
    "\u03a0\u0391\u03a0\u0391\u03a3": "\u03a0\u03b1\u03c0\u03b1\u03c2",
    "\u0418\u0412\u0410\u041d\u041e\u0412": "\u0418\u0432\u0430\u043d\u043e\u0432",
    "M\u00dcLLER": "M\u00fcller",
    "\u5c71\u672c": "\u5c71\u672c",
    "x": "X",
    "7": "7",
}


def vectorizer(case: str = AS_WRITTEN) -> SurnameVectorizer:
    made = SurnameVectorizer.from_dataframe(frame_of(small_rows()))
    made.letter_case = case
    return made


def test_names_in_one_case_are_put_into_title_case_and_others_left() -> None:
    assert LETTER_CASES["title"](list(TITLE)) == list(TITLE.values())
    for name, read in TITLE.items():
        assert vectorizer("title").as_read([name]) == [read]


def test_a_name_with_a_line_end_stays_one() -> None:
    assert LETTER_CASES["title"](["NAKA\nMOTO", "WAN"]) == ["Naka\nMoto", "Wan"]


def test_a_list_that_is_read_stays_as_it_was() -> None:
    names = ["NAKAMOTO", "Wan"]
    assert LETTER_CASES["title"](names) == ["Nakamoto", "Wan"]
    assert names == ["NAKAMOTO", "Wan"]


@pytest.mark.parametrize("case", LETTER_CASES)
def test_one_name_and_many_are_read_alike(case: str) -> None:
    made, names = vectorizer(case), ["RAMINI", "ramini", " Ramini ", "VAMe\u0301", *TITLE]
    tokens, lengths = made.vectorize_many(names)
    one_by_one = [made.vectorize(name)[0].tolist() for name in names]
    assert tokens.tolist() == [token for each in one_by_one for token in each]
    assert lengths.tolist() == list(map(len, one_by_one))


def chosen(names: list[str], *, known: str) -> str:
    """What is chosen for a model that knows names in one writing only: it says right or wrong."""
    write = {"title": str.title, "capitals": str.upper, "lower": str.lower}[known]
    right = {write(name) for name in names}
    return choose_letter_case(names, ["x"] * len(names), lambda read: says_x_of(right, read))


def says_x_of(right: set[str], names: list[str]) -> list[str]:
    return ["x" if name in right else "y" for name in names]


def test_the_way_of_reading_follows_from_what_is_right() -> None:
    assert chosen(["Rossi", "Verdi"], known="title") == "title"
    assert chosen(["ROSSI", "VERDI"], known="capitals") == "upper"
    assert chosen(["rossi", "verdi"], known="lower") == "lower"
    assert chosen(["\u5c71\u672c", "\u674e"], known="title") == AS_WRITTEN  # nothing to choose
    assert choose_letter_case([], [], lambda names: []) == AS_WRITTEN


def test_names_as_they_are_written_lose_next_to_nothing() -> None:
    """Reading in lower case would gain much on the other writings, and loses one name of two."""
    right = {"Rossi", "VERDI", "rossi", "verdi"}
    case = choose_letter_case(["Rossi", "VERDI"], "xx", lambda names: says_x_of(right, names))
    assert case == "lower"
    right.remove("verdi")
    case = choose_letter_case(["Rossi", "VERDI"], "xx", lambda names: says_x_of(right, names))
    assert case == AS_WRITTEN


def test_what_is_stored_comes_back_and_files_without_it_read_as_written() -> None:
    made = vectorizer("title")
    said = json.loads(json.dumps(made.to_serializable()))
    again = SurnameVectorizer.from_serializable(said)
    assert (again.letter_case, again.seen) == ("title", made.seen)
    assert again.to_serializable() == said
    of_the_notebook = SurnameVectorizer.from_serializable(made.vocabularies())
    assert (of_the_notebook.letter_case, of_the_notebook.seen) == (AS_WRITTEN, None)
    assert of_the_notebook.to_serializable() == made.vocabularies()


SEEN = {"longest": 8, "capitals": 0.0, "lower": 0.0, "mixed": 1.0}


@pytest.mark.parametrize(
    ("field", "value"),
    [("letter_case", "Title"), ("letter_case", None), ("letter_case", ["title"]),
     ("letter_case", {}), ("seen", None), ("seen", 3), ("seen", {}), ("seen", SEEN | {"more": 1}),
     ("seen", SEEN | {"longest": 1.5}), ("seen", SEEN | {"longest": True}),
     ("seen", SEEN | {"longest": 0}), ("seen", SEEN | {"mixed": "1"}),
     ("seen", SEEN | {"lower": 1.5}), ("seen", SEEN | {"capitals": float("nan")})],
)  # fmt: skip
def test_what_is_damaged_is_named(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=field):
        SurnameVectorizer.from_serializable(vectorizer().vocabularies() | {field: value})


def test_what_is_unlike_the_names_of_training() -> None:
    mixed = Seen.of(["Rossi", "McMahan", "O"])
    assert mixed == Seen(longest=7, capitals=0.0, lower=0.0, mixed=1.0)
    assert mixed.unlike(["Rossi", "X", "VERDI", "bianchi", "\u5c71\u672c", "A" + "b" * 14]) == {
        "in capitals": ["VERDI"],
        "in lower case": ["bianchi"],
        "longer than 14 characters": ["A" + "b" * 14],
    }
    assert mixed.unlike(["Rossi"]) == mixed.unlike([]) == {}
    assert Seen.of(["ROSSI", "VERDI"]).unlike(["ROSSI", "Verdi", "a1"]) == {
        "in lower case": ["a1"], "in capitals and lower case": ["Verdi"],
    }  # fmt: skip
    assert Seen.of(["\u5c71\u672c", "\u674e\u660e"]).unlike(["Ro", "RO", "ro"]) == {}
