"""Names as callers hold them: the same answers for all, and an error that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from npnlp.backend import Random
from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.estimator.estimator import SurnameClassifierEstimator
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SequenceVocabulary, SurnameVectorizer, Vocabulary

NAMES = ["Rammoto", "Vilenko", "Ödön"]


def classifier() -> Classifier:
    characters, classes = SequenceVocabulary(), Vocabulary()
    characters.add_many("RVamotilenk")
    classes.add_many(["one", "two", "three"])
    config = ClassifierConfig(len(characters), 3, embedding_size=4, rnn_hidden_size=5)
    model = SurnameClassifier(config, random=Random(1))
    return Classifier(model, SurnameVectorizer(characters, classes))


def estimator() -> SurnameClassifierEstimator:
    made, held = SurnameClassifierEstimator(), classifier()
    made.model_, made.vectorizer_ = held.model, held.vectorizer
    made.classes_ = np.array(held.vectorizer.nationality_vocab.tokens)
    return made


def surnames(names: Any) -> list[str]:
    return [found.surname for found in classifier().predict(names)]


#: What takes names, as a function of them alone.
DOORS: dict[str, Callable[[Any], Any]] = {
    "predict": lambda names: [found.to_dict() for found in classifier().predict(names, top_k=3)],
    "best": lambda names: classifier().best(names)[0],
    "probabilities": lambda names: classifier().probabilities(names),
    "estimator": lambda names: estimator().predict(names),
    "predict_proba": lambda names: estimator().predict_proba(names),
    "score": lambda names: estimator().score(names, ["one", "two", "one"]),
    "vectorize_many": lambda names: classifier().vectorizer.vectorize_many(names)[0],
}


class Arrow:
    """The little of an Arrow array that is asked for: its items are no texts."""

    def __iter__(self) -> Any:
        return iter([object()])

    def to_pylist(self) -> list[str]:
        return list(NAMES)


class ArrowTable:
    """A table of Arrow: its ``columns`` are the arrays themselves."""

    column_names = ("name",)
    columns = (Arrow(),)
    shape = (3, 1)

    def __getitem__(self, name: str) -> Arrow:
        assert name == "name"
        return Arrow()


GIVEN: dict[str, Callable[[], Any]] = {
    "a tuple": lambda: tuple(NAMES),
    "a generator": lambda: (name for name in NAMES),
    "keys": lambda: dict.fromkeys(NAMES, 1).keys(),
    "an array": lambda: np.array(NAMES),
    "objects": lambda: np.array(NAMES, dtype=object),
    "a column of an array": lambda: np.array(NAMES)[:, None],
    "a series": lambda: pd.Series(NAMES, index=[7, 5, 5]),
    "a series of objects": lambda: pd.Series(NAMES, dtype=object),
    "categories": lambda: pd.Series(NAMES, dtype="category"),
    "an index": lambda: pd.Index(NAMES),
    "a frame": lambda: pd.DataFrame({"surname": NAMES}),
    "a frame of objects": lambda: pd.DataFrame({0: NAMES}, dtype=object),
    "an Arrow array": Arrow,
    "an Arrow table": ArrowTable,
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_the_same_answers_however_names_are_held(
    given: Callable[[], Any], door: Callable[[Any], Any]
) -> None:
    assert np.array_equal(door(given()), door(NAMES))


@pytest.mark.parametrize("kind", ["array", "chunked_array", "table", "string_view"])
def test_arrays_of_pyarrow(kind: str) -> None:
    arrow: Any = pytest.importorskip("pyarrow")
    given: dict[str, Callable[[], Any]] = {
        "array": lambda: arrow.array(NAMES),
        "chunked_array": lambda: arrow.chunked_array([NAMES[:1], NAMES[1:]]),
        "table": lambda: arrow.table({"surname": NAMES}),
        "string_view": lambda: pd.Series(NAMES, dtype="string[pyarrow]"),
    }
    assert surnames(given[kind]()) == NAMES


def test_predictions_name_what_was_given() -> None:
    assert surnames(pd.DataFrame({"surname": NAMES})) == NAMES
    assert surnames(name for name in NAMES) == NAMES


BAD: dict[str, tuple[Any, str]] = {
    "one text": ("Rossi", "the one text 'Rossi'; put it into a list"),
    "bytes": (b"Rossi", "the one text b'Rossi'; put it into a list"),
    "none": (None, "None (NoneType); it has to be a list"),
    "a number": (5, "5 (int); it has to be a list"),
    "a dict": ({"surname": NAMES}, "(dict); it has to be a list"),
    "two columns": (
        pd.DataFrame({"surname": NAMES, "age": 1}),
        "a table of 2 columns ('surname', 'age'); give the one with the texts, such as "
        "table['surname']",
    ),
    "no column": (pd.DataFrame(index=[1, 2]), "a table of 0 columns ()"),
    "two axes": (np.array([NAMES, NAMES]), "shape (2, 3)"),
    "no axis": (np.array("Rossi"), "shape ()"),
    "None in a list": ([*NAMES, None], "row 3: None (NoneType) is no text"),
    "NaN in a series": (pd.Series([*NAMES, np.nan], dtype=object), "row 3: nan (float) is no"),
    "missing in a series": (pd.Series([*NAMES, None], dtype="string"), "row 3: <NA> (NAType)"),
    "None alone": ([None], "row 0: None (NoneType)"),
    "numbers": ([1, 2], "row 0: 1 (int) is no text"),
    "numbers of an array": (np.arange(3), "row 0: 0 (int) is no text"),
    "bytes in a list": (["Rossi", b"Verdi"], "row 1: b'Verdi' (bytes) is no text"),
    "many bytes": ([b"Verdi"] * 300, "row 0: b'Verdi' (bytes) is no text"),
    "a nested list": ([["Rossi"], ["Verdi"]], "row 0: ['Rossi'] (list) is no text"),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize(("given", "said"), BAD.values(), ids=BAD)
def test_what_holds_no_names_is_refused(given: Any, said: str, door: Callable[[Any], Any]) -> None:
    with pytest.raises(InputError) as error:
        door(given)
    assert said in str(error.value)
    assert str(error.value).startswith(("surnames", "X"))
    assert "\n" not in str(error.value)


def test_no_names_have_no_answers() -> None:
    assert classifier().predict([]) == []
    assert classifier().predict(pd.DataFrame({"surname": []})) == []


def test_unknown_characters_are_those_of_a_text() -> None:
    assert classifier().unknown_characters("Ramx") == "x"
    with pytest.raises(InputError, match=r"surname, row 0: None \(NoneType\) is no text"):
        classifier().unknown_characters(None)  # type: ignore[arg-type]
