"""Reading the table of names; errors name the file, the row and the column."""

from __future__ import annotations

import csv
import io
import sys
from array import array
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from npnlp.errors import InputError, short
from npnlp.files.nearest import no_such_file
from npnlp.text.content import read_bytes
from npnlp.text.encoding import clean_name

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("nationality", "surname")
SPLITS = ("train", "val", "test")
#: A table has at most this many bytes, some 40 million names.
LARGEST_TABLE = 2**30


def own_table_path() -> Path:
    """The path of the project's own table of surnames."""
    return Path(str(resources.files("npnlp") / "data" / "surnames.csv"))


def read_table(path: str | Path) -> pd.DataFrame:
    """The columns ``nationality``, ``surname`` and, where there is one, ``split``, and ``row``.

    The file is UTF-8 with or without a byte-order mark, with columns in any order; other columns
    are left out. Names and nationalities are put into composed form, without blanks around them.
    ``row`` is the line of the file that the record ends on. ``NaN`` and ``NA`` are names like any
    other.

    Raises :class:`InputError` for a file that cannot be read, is not UTF-8 or not CSV, lacks a
    column or has no rows, and for an empty field or an unknown split.
    """
    import pandas as pd

    path = Path(path)
    try:
        content = read_bytes(path, LARGEST_TABLE)
    except InputError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise InputError(
                f"{path}: {no_such_file(path)}; give a CSV with --surname-csv"
            ) from error
        raise
    _require_text(path, content)
    # Decoded line by line: the text of the whole file would take four bytes a character.
    lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
    reader = csv.reader(lines, strict=True)
    begins = 1
    try:
        header = [field.strip() for field in next(filter(None, reader), [])]
        columns = _columns(path, header)
        values: dict[str, list[str]] = {name: [] for name in columns}
        rows = array("q")
        begins = reader.line_num + 1
        for fields in reader:
            if fields:
                if len(fields) != len(header):
                    raise wrong_width(path, reader.line_num, len(fields), len(header))
                _add(values, path, reader.line_num, columns, fields)
                rows.append(reader.line_num)
            begins = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}: row {begins}: not valid CSV: {error}") from error
    if not rows:
        raise InputError(f"{path}: no rows below the header; give at least one a split")
    return pd.DataFrame({**values, "row": np.array(rows, dtype=np.int64)})


def _require_text(path: Path, content: bytes) -> None:
    """Raise :class:`InputError` where the file is not UTF-8 text."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before[before.rfind(b"\n") + 1 :].decode("latin-1")
        header = content.split(b"\n", 1)[0].decode("utf-8-sig", "replace").strip().split(",")
        place = _fields(line) - 1
        column = header[place] if 0 <= place < len(header) else f"number {place + 1}"
        raise InputError(
            f"{path}: row {before.count(bytes([10])) + 1}, column {plain(column)}: byte "
            f"0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error
    if 0 in content:
        row = content.count(b"\n", 0, content.index(0)) + 1
        raise InputError(f"{path}: row {row}: not a CSV text file")


def _fields(line: str) -> int:
    """The number of fields in a line, or in its beginning."""
    try:
        return len(next(csv.reader([line]), [""]))
    except csv.Error:
        return line.count(",") + 1


def plain(text: str) -> str:
    """Text of the file for a message; quoted where it is unprintable, and cut where it is long."""
    return text if text.isprintable() and len(text) <= 80 else short(text, 80)


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    """The places of the known columns."""
    if not header:
        raise InputError(f"{path}: the file is empty; its first row has to name the columns")
    for name in REQUIRED:
        if name not in header:
            found = plain(", ".join(header)[:80])
            raise InputError(f"{path}: row 1: column {name!r} is missing; found: {found}")
    known = [name for name in (*REQUIRED, "split") if name in header]
    for name in known:
        if header.count(name) > 1:
            raise InputError(f"{path}: row 1: column {name!r} stands there twice; keep one")
    return {name: header.index(name) for name in known}


def wrong_width(source: str | Path, row: int, fields: int, columns: int) -> InputError:
    """The error of a record that has another number of fields than the header has columns."""
    return InputError(
        f"{source}: row {row}: {fields} fields where the header names {columns} columns; quote a "
        "field that holds a comma"
    )


def _add(
    values: dict[str, list[str]], path: Path, row: int, columns: dict[str, int], fields: list[str]
) -> None:
    """Append the fields of a record to ``values``, column by column."""
    for name, place in columns.items():
        where = f"{path}: row {row}, column {name}"
        try:
            value = clean_name(fields[place])
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        if not value:
            raise InputError(f"{where}: empty; fill it or drop the row")
        if name == "split" and value not in SPLITS:
            raise InputError(f"{where}: {short(value)} is none of {', '.join(SPLITS)}")
        # Each of the few nationalities and splits is stored once.
        values[name].append(value if name == "surname" else sys.intern(value))
