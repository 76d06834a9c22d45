"""Reading the table of names; errors name the file, the row and the column."""

from __future__ import annotations

import csv
import io
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from npnlp.errors import InputError
from npnlp.files.nearest import no_such_file
from npnlp.files.own import own_path
from npnlp.text.columns import ANY, LINE, Columns, Layout, find_layout, plain
from npnlp.text.records import Records
from npnlp.text.rows import Rows
from npnlp.text.unpacked import unpacked

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("nationality", "surname")
#: A table has at most this many bytes, some 40 million names.
LARGEST_TABLE = 2**30
#: Bytes that are read at once, and the most that a header has.
PIECE = 2**20
#: Bytes of lines that become rows at once.
LINES = 2**17


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
    return read_rows(path, columns).frame()


def read_rows(path: str | Path, columns: Columns = ANY) -> Rows:
    """The same, column by column."""
    path = Path(path)
    content = _content(path)
    layout = _layout(path, content, columns)
    records, above = Records(str(path), layout), layout.lines
    start = _end_of_line(content, layout.lines)
    while start < len(content):
        end = content.rfind(b"\n", start, start + LINES) + 1
        end = end or content.find(b"\n", start + LINES) + 1 or len(content)
        lines = bytes(content[start:end])
        if b'"' in lines:  # a field, and a record, may be of several lines
            rest = io.BytesIO(memoryview(content)[start:])
            records.add(io.TextIOWrapper(rest, encoding="utf-8", newline=""), above)
            break
        if b"\r" in lines:
            lines = lines.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines += b"\n" * (not lines.endswith(b"\n"))
        if not records.add_plain(lines, above):
            records.add(io.StringIO(lines.decode()), above)
        start, above = end, above + lines.count(b"\n")
    return records.rows()


def _end_of_line(content: bytearray, count: int) -> int:
    """Where line number ``count`` ends."""
    lines = re.finditer(LINE, content[:PIECE].decode("utf-8", "ignore"))
    return len("".join(line[0] for line in islice(lines, count)).encode())


def _content(path: Path) -> bytearray:
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
    return content


def _layout(path: Path, content: bytearray, columns: Columns) -> Layout:
    """Raises :class:`InputError` where the content is no text, too."""
    _require_text(path, content, columns)
    begin = content[:PIECE].decode("utf-8", "ignore")
    try:
        return find_layout(begin, REQUIRED, ("split",), columns)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _require_text(path: Path, content: bytearray, columns: Columns) -> None:
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


def _column_at(before: bytearray, columns: Columns) -> str:
    """The column that the text ``before`` ends in, for a message; nothing where there is none."""
    text = before.decode("utf-8", "replace")
    line = text[text.rfind("\n") + 1 :]
    try:
        layout = find_layout(text[:PIECE], REQUIRED, (), columns)
        place = len(next(csv.reader([line], delimiter=layout.delimiter), [""])) - 1
        return f", column {plain(layout.fields[place])}"
    except (InputError, csv.Error, IndexError):
        return ""
