"""Reading the table of names. What is wrong is said with file, row and column."""

from __future__ import annotations

import csv
import io
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from npnlp.errors import InputError
from npnlp.text.vectorizer import clean_name

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("nationality", "surname")
SPLITS = ("train", "val", "test")


def own_table_path() -> Path:
    """Where the project's own table of surnames lies."""
    return Path(str(resources.files("npnlp") / "data" / "surnames.csv"))


def read_table(path: str | Path) -> pd.DataFrame:
    """The columns ``nationality``, ``surname`` and, where there is one, ``split``, and ``row``.

    UTF-8 with or without a byte-order mark; columns in any order, others left out; names and
    nationalities in composed form without blanks around them. ``row`` is the line in the file
    that the record ends on. A field reading ``NaN`` or ``NA`` is a name like any other.

    Raises :class:`InputError` for a file that cannot be read, is not UTF-8 or not CSV, lacks a
    column or has no rows, and for an empty field or an unknown split.
    """
    import pandas as pd

    path = Path(path)
    text = _decode(path, _read_bytes(path))
    if "\0" in text:
        raise InputError(f"{path}: row {_row_of(text, text.index(chr(0)))}: not a CSV text file")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records: list[dict[str, str | int]] = []
    begins = 1
    try:
        header = [field.strip() for field in next(filter(None, reader), [])]
        columns = _columns(path, header)
        begins = reader.line_num + 1
        for fields in reader:
            if fields:
                _check_width(path, reader.line_num, header, fields)
                records.append(_record(path, reader.line_num, columns, fields))
            begins = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}: row {begins}: not valid CSV: {error}") from error
    if not records:
        raise InputError(f"{path}: no rows below the header; give at least one a split")
    return pd.DataFrame(records, columns=[*columns, "row"])


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; give a CSV with --surname-csv") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before[before.rfind(b"\n") + 1 :].decode("latin-1")
        header = content.split(b"\n", 1)[0].decode("utf-8-sig", "replace").strip().split(",")
        place = len(next(csv.reader([line]), [""])) - 1
        column = header[place] if 0 <= place < len(header) else f"number {place + 1}"
        raise InputError(
            f"{path}: row {before.count(bytes([10])) + 1}, column {column}: byte "
            f"0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error


def _row_of(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    """Where the known columns stand."""
    if not header:
        raise InputError(f"{path}: the file is empty; its first row has to name the columns")
    for name in REQUIRED:
        if name not in header:
            found = ", ".join(header)[:80]
            raise InputError(f"{path}: row 1: column {name!r} is missing; found: {found}")
    known = [name for name in (*REQUIRED, "split") if name in header]
    for name in known:
        if header.count(name) > 1:
            raise InputError(f"{path}: row 1: column {name!r} stands there twice; keep one")
    return {name: header.index(name) for name in known}


def _check_width(path: Path, row: int, header: list[str], fields: list[str]) -> None:
    if len(fields) != len(header):
        raise InputError(
            f"{path}: row {row}: {len(fields)} fields where the header names {len(header)} "
            "columns; quote a field that holds a comma"
        )


def _record(
    path: Path, row: int, columns: dict[str, int], fields: list[str]
) -> dict[str, str | int]:
    record: dict[str, str | int] = {
        name: clean_name(fields[place]) for name, place in columns.items()
    }
    for name, value in record.items():
        if not value:
            raise InputError(f"{path}: row {row}, column {name}: empty; fill it or drop the row")
    if record.get("split", "train") not in SPLITS:
        raise InputError(
            f"{path}: row {row}, column split: {record['split']!r} is none of {', '.join(SPLITS)}"
        )
    return {**record, "row": row}
