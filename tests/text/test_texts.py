"""Many texts as one row of bytes."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from npnlp.text.encoding import are_clean, clean_names, encode_names, encode_texts
from npnlp.text.letter_case import KINDS, Seen
from npnlp.text.table import read_rows
from npnlp.text.texts import BLOCK, Texts
from npnlp.text.vocabulary import SequenceVocabulary

ALPHABET = "ab\0\x7féZ\u01c5王😀ß \u00a0\ud800"


def some_texts(seed: int, count: int = 60) -> list[str]:
    """Texts of up to 20 characters, some of them equal, some alike but for zero bytes."""
    draw = random.Random(seed)
    made = [
        "".join(draw.choices(ALPHABET, k=draw.choice([0, 1, 2, 7, 8, 9, 16, 20])))
        for _ in range(count)
    ]
    return made + made[:9] + [f"{text[:8]}\0" for text in made[:9]]


@pytest.mark.parametrize("seed", range(20))
def test_texts_are_those_that_were_given(seed: int) -> None:
    given = some_texts(seed)
    texts = Texts.of(iter(given))
    assert list(texts) == given
    assert texts.lengths.tolist() == [*map(len, given)]
    rows = np.array([3, 3, 0, len(given) - 1])
    assert list(texts.take(rows)) == [given[row] for row in rows]
    assert list(texts.characters()) == list(dict.fromkeys("".join(given)))


@pytest.mark.parametrize("seed", range(20))
def test_they_are_sorted_by_code_points_and_equal_ones_have_one_rank(seed: int) -> None:
    given = some_texts(seed)
    order, rank = Texts.of(given).order()
    assert [given[row] for row in order] == sorted(given)
    of_text = {text: place for place, text in enumerate(sorted({*given}))}
    assert rank.tolist() == [of_text[text] for text in given]


def test_no_texts_are_texts() -> None:
    none = Texts.of([])
    assert list(none) == list(none.take(np.arange(0))) == []
    assert [array.tolist() for array in none.order()] == [[], []]


def test_more_texts_than_a_block_holds() -> None:
    given = [f"{n % 1000}é{n}" for n in range(BLOCK + 5)]
    texts = Texts.of(given)
    assert list(texts) == given
    assert [given[row] for row in texts.order()[0]] == sorted(given)


@pytest.mark.parametrize("seed", range(10))
def test_what_is_called_clean_is(seed: int) -> None:
    for text in [*some_texts(seed), "e\u0301", "Rossi", "a\u0085", "De Rossi"]:
        texts = Texts.of([text, "Rossi"])
        assert not are_clean(texts) or (text and clean_names([text]) == [text])
    assert are_clean(Texts.of(["De Rossi", "Ren\u00e9", "王伟"]))


def test_tokens_are_those_of_the_list() -> None:
    given, vocab = [text for text in some_texts(1) if text], SequenceVocabulary()
    vocab.add_many("abé王")
    for found, expected in zip(
        encode_texts(Texts.of(given), vocab), encode_names(given, vocab), strict=True
    ):
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("seed", range(10))
def test_what_names_look_like_is_counted_as_python_says(seed: int) -> None:
    draw = random.Random(seed)
    names = ["".join(draw.choices("aBßǅΣσ1ªⅧ王ﬁ", k=draw.randint(0, 4))) for _ in range(300)]
    more = [name for name in names if len(name) > 1]
    shares = [round(sum(map(kind, more)) / len(more), 4) for kind in KINDS.values()]
    assert Seen.of(names) == Seen(max(map(len, names)), *shares)


@pytest.mark.parametrize("odd", ['"Ros""si"', " Rossi ", "Rene\u0301", "a" * 1001])
def test_a_table_reads_the_same_beside_a_record_that_is_not_plain(tmp_path: Path, odd: str) -> None:
    """Many lines are read at once where all are plain, else each record by itself."""
    rows = [f"Verdi{n},Italian" for n in range(9)]
    plain, mixed = tmp_path / "plain.csv", tmp_path / "mixed.csv"
    plain.write_text("\n".join(["surname,nationality", *rows, ""]), "utf-8")
    mixed.write_text(
        "\n".join(["surname,nationality", *rows, f"{odd},Russian"]), "utf-8", newline=""
    )
    found, expected = read_rows(mixed), read_rows(plain)
    assert list(found.names)[:9] == list(expected.names)
    assert found.lines is not None
    assert found.lines.tolist() == list(range(2, 12))
    assert list(found.labels) == ["Italian"] * 9 + ["Russian"]


def test_a_row_of_a_table_takes_some_bytes(tmp_path: Path) -> None:
    """Beside the file's content and its names: 8 bytes for where a name ends, 4 for the line, and
    one for the label; as Python's strings, names alone would take 60.
    """
    count, path = 100_000, tmp_path / "table.csv"
    path.write_text("surname,nationality\n" + "".join(f"Verdi{n},A{n % 9}\n" for n in range(count)))
    read_rows(path)  # imports
    tracemalloc.start()
    try:
        rows = read_rows(path)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = path.stat().st_size
    assert len(rows) == count
    assert kept < 16 * count + size
    assert most < 40 * count + 3 * size + 2**22
