"""Reading the table of names; errors name the file, the row and the column."""

from __future__ import annotations

import csv
import io
import sys
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from npnlp.errors import InputError, short
from npnlp.files.nearest import no_such_file
from npnlp.files.own import own_path
from npnlp.text.columns import ANY, Columns, Layout, find_layout, plain, wrong_width
from npnlp.text.encoding import clean_name
from npnlp.text.unpacked import unpacked

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("nationality", "surname")
SPLITS = ("train", "val", "test")
#: What a table may call them, in any letter case.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "development"),
    "test": ("test", "testing"),
}
SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
#: A table has at most this many bytes, some 40 million names.
LARGEST_TABLE = 2**30
#: Bytes that are read at once, and the most that a header has.
PIECE = 2**20


def own_table_path() -> Path:
    """The path of the project's own table of surnames."""
    return own_path("surnames.csv")


def read_table(path: str | Path, columns: Columns = ANY) -> pd.DataFrame:
    """The columns ``nationality``, ``surname`` and, where there is one, ``split``, and ``row``.

    The file is UTF-8, or UTF-16 with its mark, plain or in gzip, or Parquet. Fields stand between
    commas, semicolons or tabs; columns are in any order, have one of the names in
    :data:`npnlp.text.columns.NAMES` or those that ``columns`` says, and others are left out. Names
    and labels are put into composed form, without blanks around them. ``row`` is the line of the
    file that the record ends on. ``NaN`` and ``NA`` are names like any other. ``attrs["label"]`` is
    what the file calls the column of labels.

    Raises :class:`InputError` for a file that cannot be read, is no text or not CSV, lacks a
    column or has no rows, and for an empty field or an unknown split. Rows of empty fields at the
    end, which spreadsheets write, are none.
    """
    import pandas as pd

    path = Path(path)
    content = _content(path)
    layout = _layout(path, content, columns)
    # Decoded line by line: the text of the whole file would take four bytes a character.
    lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="")
    for _ in range(layout.lines):
        next(lines)
    reader = csv.reader(lines, delimiter=layout.delimiter, strict=True)
    values: dict[str, list[str]] = {name: [] for name in layout.places}
    rows, begins, blank = array("q"), layout.lines + 1, 0
    try:
        for fields in reader:
            row = layout.lines + reader.line_num
            if any(map(str.strip, fields)):
                if blank:
                    _add(values, path, blank, layout, [""] * len(layout.fields))
                if len(fields) != len(layout.fields):
                    raise wrong_width(path, row, len(fields), len(layout.fields), layout.delimiter)
                _add(values, path, row, layout, fields)
                rows.append(row)
            elif fields:
                blank = blank or row
            begins = row + 1
    except csv.Error as error:
        raise InputError(f"{path}: row {begins}: not valid CSV: {error}") from error
    if not rows:
        raise InputError(f"{path}: no rows below the header; give at least one a split")
    # As objects: where pyarrow is installed, pandas would put them into its arrays, which are slow
    # to walk through.
    frame = pd.DataFrame(values, dtype=object).assign(row=np.array(rows, dtype=np.int64))
    frame.attrs["label"] = layout.fields[layout.places["nationality"]]
    return frame


def _content(path: Path) -> bytes:
    """All of the file, as UTF-8."""
    content = bytearray()
    try:
        with path.open("rb") as file:
            for piece in unpacked(file, str(path), PIECE):
                content += piece
                if len(content) > LARGEST_TABLE:
                    raise InputError(f"{path}: over {LARGEST_TABLE:,} bytes, the limit")
    except FileNotFoundError as error:
        raise InputError(f"{path}: {no_such_file(path)}; give a CSV with --surname-csv") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return bytes(content)


def _layout(path: Path, content: bytes, columns: Columns) -> Layout:
    """Raises :class:`InputError` where the content is no text, too."""
    _require_text(path, content, columns)
    begin = content[:PIECE].decode("utf-8", "ignore")
    try:
        return find_layout(begin, REQUIRED, ("split",), columns)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _require_text(path: Path, content: bytes, columns: Columns) -> None:
    """Raise :class:`InputError` where the file is not UTF-8 text."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        row = before.count(b"\n") + 1
        raise InputError(
            f"{path}: row {row}{_column_at(before, columns)}: byte "
            f"0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error
    if 0 in content:
        row = content.count(b"\n", 0, content.index(0)) + 1
        raise InputError(
            f"{path}: row {row}: not a CSV text file, or UTF-16 without its mark; save it as UTF-8"
        )


def _column_at(before: bytes, columns: Columns) -> str:
    """The column that the text ``before`` ends in, for a message; nothing where there is none."""
    text = before.decode("utf-8", "replace")
    line = text[text.rfind("\n") + 1 :]
    try:
        layout = find_layout(text[:PIECE], REQUIRED, (), columns)
        place = len(next(csv.reader([line], delimiter=layout.delimiter), [""])) - 1
        return f", column {plain(layout.fields[place])}"
    except (InputError, csv.Error, IndexError):
        return ""


def _add(
    values: dict[str, list[str]], path: Path, row: int, layout: Layout, fields: list[str]
) -> None:
    """Append the fields of a record to ``values``, column by column."""
    for name, place in layout.places.items():
        try:
            value = clean_name(fields[place])
            if not value:
                raise InputError("empty; fill it or drop the row")
            if name == "split":
                value = SPLIT_OF.get(value.casefold(), value)
                if value not in SPLITS:
                    raise InputError(f"{short(value)} is none of {', '.join(SPLITS)}")
        except InputError as error:
            column = plain(layout.fields[place])
            raise InputError(f"{path}: row {row}, column {column}: {error}") from error
        # Each of the few labels and splits is stored once.
        values[name].append(value if name == "surname" else sys.intern(value))
