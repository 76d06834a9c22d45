"""Reading the table of names, and the table that comes with the project."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from npnlp.errors import InputError
from npnlp.text import own_table_path, read_table
from npnlp.text.audit import audit
from npnlp.text.rows import Rows
from tests.support.tables import (
    BAD_TABLES,
    CLASSES,
    HEADER,
    ROOT,
    Bad,
    csv_text,
    small_rows,
    write_table,
)

NATIONALITIES = [
    "Arabic", "Chinese", "Czech", "Dutch", "English", "French", "German", "Greek", "Irish",
    "Italian", "Japanese", "Korean", "Polish", "Portuguese", "Russian", "Scottish", "Spanish",
    "Vietnamese",
]  # fmt: skip
KEPT = ["NaN", "NA", "null", "None", "nan", "N/A", "TRUE", "007", "1e5"]


def put(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def names(path: Path) -> list[str]:
    return list(read_table(path)["surname"])


def test_a_table_is_read_as_it_is_written(tmp_path: Path) -> None:
    frame = read_table(write_table(tmp_path / "table.csv"))
    rows = zip(frame["nationality"], frame["split"], frame["surname"], strict=True)
    assert list(rows) == small_rows()
    assert list(frame["row"]) == list(range(2, 62))


def test_columns_may_come_in_any_order(tmp_path: Path) -> None:
    path = put(tmp_path, "surname,split,nationality\nRossi,train,Italian\n")
    frame = read_table(path)
    assert frame.loc[0, "surname"] == "Rossi"
    assert frame.loc[0, "nationality"] == "Italian"
    assert frame.loc[0, "split"] == "train"


def test_other_columns_are_left_out(tmp_path: Path) -> None:
    path = put(tmp_path, "id,surname,note,nationality\n1,Rossi,,Italian\n")
    assert set(read_table(path).columns) == {"surname", "nationality", "row"}


def test_two_other_columns_may_have_one_name(tmp_path: Path) -> None:
    path = put(tmp_path, "x,surname,x,nationality\n1,Rossi,2,Italian\n")
    assert names(path) == ["Rossi"]


def test_a_table_may_lack_the_split(tmp_path: Path) -> None:
    assert "split" not in read_table(put(tmp_path, "nationality,surname\nItalian,Rossi\n"))


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = put(tmp_path, b"\xef\xbb\xbf" + csv_text(small_rows()).encode())
    assert read_table(path).equals(read_table(write_table(tmp_path / "plain.csv")))


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_of_other_systems_read_the_same(tmp_path: Path, end: str) -> None:
    path = put(tmp_path, csv_text(small_rows()).replace("\n", end))
    assert read_table(path).equals(read_table(write_table(tmp_path / "plain.csv")))


def test_the_last_line_needs_no_end(tmp_path: Path) -> None:
    assert names(put(tmp_path, f"{HEADER}Italian,train,Rossi")) == ["Rossi"]


def test_quoted_fields(tmp_path: Path) -> None:
    rows = '"Italian","train","Rossi, jr."\nIrish,train,"O""Neill"\nIrish,"train",O\'Brien\n'
    path = put(tmp_path, f'"nationality",split,"surname"\n{rows}')
    assert names(path) == ["Rossi, jr.", 'O"Neill', "O'Brien"]


def test_blank_lines_count_as_lines_and_not_as_rows(tmp_path: Path) -> None:
    path = put(tmp_path, f"{HEADER}\nItalian,train,Rossi\n\n\nItalian,train,Verdi\n\n")
    frame = read_table(path)
    assert list(frame["surname"]) == ["Rossi", "Verdi"]
    assert list(frame["row"]) == [3, 6]


def test_a_blank_line_above_the_header_does_no_harm(tmp_path: Path) -> None:
    assert names(put(tmp_path, f"\n{HEADER}Italian,train,Rossi\n")) == ["Rossi"]


@pytest.mark.parametrize("name", KEPT)
def test_names_that_look_like_values_are_names(tmp_path: Path, name: str) -> None:
    frame = read_table(put(tmp_path, f"{HEADER}{name},train,{name}\n"))
    assert list(frame["surname"]) == list(frame["nationality"]) == [name]


def test_blanks_around_fields_and_headers_go(tmp_path: Path) -> None:
    frame = read_table(
        put(tmp_path, " nationality , split,surname\n Italian , train , De Rossi \n")
    )
    assert frame.iloc[0].to_dict() == {
        "nationality": "Italian", "split": "train", "surname": "De Rossi", "row": 2,
    }  # fmt: skip


def test_names_and_nationalities_come_composed(tmp_path: Path) -> None:
    accent = "e\u0301"
    frame = read_table(put(tmp_path, f"{HEADER}Franc{accent},train,Ren{accent}\n"))
    assert frame.loc[0, "surname"] == "Ren\u00e9"
    assert frame.loc[0, "nationality"] == "Franc\u00e9"


def test_a_long_name_is_a_name(tmp_path: Path) -> None:
    assert names(put(tmp_path, f"{HEADER}Italian,train,{'a' * 10_000}\n")) == ["a" * 10_000]


def test_marks_without_end_are_refused_and_not_put_in_order(tmp_path: Path) -> None:
    """To sort them would take the square of their number: minutes for a field of this length."""
    name = "a" + "\u0315\u0300" * 60_000
    path = put(tmp_path, f"{HEADER}Italian,train,{name}\n")
    with pytest.raises(InputError, match=r"row 2, column surname: .* combining marks"):
        read_table(path)


def test_marks_that_scripts_need_are_kept(tmp_path: Path) -> None:
    name = "a\u0302\u0301\u0323" * 400
    assert len(names(put(tmp_path, f"{HEADER}Italian,train,{name}\n"))) == 1


@pytest.mark.parametrize("limit", [70, 10])
def test_a_table_over_the_limit_is_refused(
    tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path, f"{HEADER}Italian,train,Rossi\n" + "Italian,train,Verdi\n" * 2)
    monkeypatch.setattr("npnlp.text.table.LARGEST_TABLE", limit)
    with pytest.raises(InputError, match=f"over {limit} bytes"):
        read_table(path)


def test_the_path_may_be_text(tmp_path: Path) -> None:
    assert len(read_table(str(write_table(tmp_path / "table.csv")))) == 60


@pytest.mark.parametrize("bad", BAD_TABLES.values(), ids=list(BAD_TABLES))
def test_a_bad_table_is_named_with_row_and_column(tmp_path: Path, bad: Bad) -> None:
    path = bad.put(tmp_path / "bad table.csv")
    with pytest.raises(InputError) as caught:
        read_table(path)
    message = str(caught.value)
    for word in (str(path), *bad.words):
        assert word in message
    assert "\n" not in message


def test_an_unclosed_quote_is_named_with_the_row_it_opens_in(tmp_path: Path) -> None:
    content = f'{HEADER}Italian,train,Rossi\nItalian,train,"Verdi\n' + "Italian,train,Neri\n" * 40
    with pytest.raises(InputError, match=r"row 3\b"):
        read_table(put(tmp_path, content))


def test_a_bad_row_is_counted_past_a_field_of_two_lines(tmp_path: Path) -> None:
    content = f'{HEADER}Italian,train,"Ros\nsi"\nItalian,train,\n'
    with pytest.raises(InputError, match=r"row 4, column surname"):
        read_table(put(tmp_path, content))


def test_bad_bytes_in_a_quoted_row_are_named_with_their_column(tmp_path: Path) -> None:
    content = b"nationality,surname,split\n" + b'"Swiss, French",Lef\xe8vre,train\n'
    with pytest.raises(InputError, match=r"row 2, column surname"):
        read_table(put(tmp_path, content))


def test_the_tables_cases_differ_in_their_words() -> None:
    """The check above would be empty if every case asked for nothing."""
    assert all(bad.words for bad in BAD_TABLES.values())


@pytest.fixture(scope="module")
def own() -> pd.DataFrame:
    return read_table(own_table_path())


def own_pairs(frame: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(frame["nationality"], frame["surname"], strict=True))


def test_the_own_table_lies_in_the_package() -> None:
    path = own_table_path()
    assert path.is_file()
    assert path.parent.parent.name == "npnlp"


def test_the_own_table_has_thousands_of_pairs_and_none_twice(own: pd.DataFrame) -> None:
    assert len(own_pairs(own)) == len(own)
    assert len(own) >= 5_000


def test_the_own_table_has_the_eighteen_nationalities(own: pd.DataFrame) -> None:
    assert sorted(set(own["nationality"])) == NATIONALITIES
    assert own["nationality"].value_counts().min() >= 60


def test_each_split_of_the_own_table_has_every_nationality(own: pd.DataFrame) -> None:
    for split in ("train", "val", "test"):
        assert sorted(set(own.loc[own["split"] == split, "nationality"])) == NATIONALITIES


def test_the_own_table_is_divided_70_15_15(own: pd.DataFrame) -> None:
    shares = own["split"].value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.70, abs=0.02)
    assert shares["val"] == pytest.approx(0.15, abs=0.02)
    assert shares["test"] == pytest.approx(0.15, abs=0.02)


def test_own_names_are_composed_letters(own: pd.DataFrame) -> None:
    for name in own["surname"]:
        assert unicodedata.is_normalized("NFC", name), name
        odd = [c for c in name if not c.isalpha() and c not in " -'\u2019"]
        assert not odd, (name, odd)
        assert all(c.isascii() or "LATIN" in unicodedata.name(c) for c in name if c.isalpha()), name


def test_own_names_begin_and_end_with_a_letter_or_apostrophe(own: pd.DataFrame) -> None:
    assert [n for n in own["surname"] if not (n[0].isalpha() and n[-1].isalpha())] == []


def bare(name: str) -> str:
    """A name without capitals and diacritics."""
    parts = unicodedata.normalize("NFD", name.casefold())
    return "".join(c for c in parts if not unicodedata.combining(c))


@pytest.mark.parametrize("key", [str, str.casefold, bare])
def test_no_own_name_stands_in_two_splits(own: pd.DataFrame, key: type[str]) -> None:
    splits: dict[str, set[str]] = {}
    for name, split in zip(own["surname"], own["split"], strict=True):
        splits.setdefault(key(name), set()).add(split)
    assert [name for name, where in splits.items() if len(where) > 1] == []


def test_the_own_file_is_sorted_plain_utf8() -> None:
    content = own_table_path().read_bytes()
    assert not content.startswith(b"\xef\xbb\xbf")
    assert b"\r" not in content
    assert content.decode("utf-8").endswith("\n")
    rows = [line.split(",") for line in content.decode("utf-8").splitlines()]
    assert rows[0] == ["nationality", "split", "surname"]
    keys = [(row[0], row[2]) for row in rows[1:]]
    assert keys == sorted(keys)


def test_the_data_card_counts_what_the_file_holds(own: pd.DataFrame) -> None:
    card = (own_table_path().parent / "README.md").read_text(encoding="utf-8")
    stated = {
        cells[0].strip("* "): [int(cell.strip("* ").replace(",", "")) for cell in cells[1:]]
        for line in card.splitlines()
        if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 5
        and cells[1].strip("* ").replace(",", "").isdigit()
    }
    table = pd.crosstab(own["nationality"], own["split"])[["train", "val", "test"]]
    expected = {str(name): [*map(int, row), int(row.sum())] for name, row in table.iterrows()}
    totals = [*map(int, table.sum()), len(own)]
    assert stated == {**expected, "All": totals}


def test_the_data_card_speaks_of_the_names_in_the_file(own: pd.DataFrame) -> None:
    card = (own_table_path().parent / "README.md").read_text(encoding="utf-8")
    text = " ".join(card.split())
    found = audit(Rows.of(own))
    assert f"{len(own):,} different pairs" in text
    assert f"{own['surname'].nunique():,} different surnames" in text
    several = found["names_with_several_nationalities"]
    assert re.search(rf"\b{several} stand under more than one", text)
    for name in ("Martin", "Lee"):
        assert own.loc[own["surname"] == name, "nationality"].nunique() == 4


def test_the_own_table_is_packaged() -> None:
    assert "data/*.csv" in (ROOT / "setup.cfg").read_text(encoding="utf-8")


def test_the_small_table_is_what_the_tests_think(tmp_path: Path) -> None:
    frame = read_table(write_table(tmp_path / "table.csv"))
    assert len(frame) == 60
    assert frame["surname"].nunique() == 60
    assert set(frame["nationality"]) == set(CLASSES)
