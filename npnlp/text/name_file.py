"""Names out of a file of any length, a part at a time: one a line, or a column of a CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import BinaryIO, NamedTuple

from npnlp.errors import InputError
from npnlp.summary import summarized

#: So many bytes are read at once: some 2^18 names. Of more names more begin alike, but what belongs
#: to them is then too far from the processor.
PART = 5 * 2**19
#: So many characters a name may have: a file without line ends is no list of names.
LONGEST = 2**16
#: So many records of a CSV.
RECORDS = 2**18
COLUMN = "surname"


@summarized
class Names(NamedTuple):
    """Names in their order, as they stand there; the ``row`` of each; bytes read for them."""

    names: list[str]
    rows: Sequence[int]
    size: int


def read_names(file: BinaryIO, source: str) -> Iterator[Names]:
    """The names of a file that ``source`` names in messages.

    UTF-8 with or without a byte-order mark. Where the first row names a column ``surname`` the
    file is a CSV, as one whose name ends in ``.csv`` has to be; else every line is a name. Memory
    does not grow with the file. Raises :class:`InputError` naming the row (and column) of what is
    not UTF-8, not CSV, empty, or too long.
    """
    texts = _texts(file, source)
    first = next(texts, ("", 0, 1))
    header = _header(first[0])
    if COLUMN in header:
        yield from _of_csv(_again(first, texts), source, header)
    elif source.lower().endswith(".csv"):
        found = ", ".join(header)[:80] or "nothing"
        raise InputError(
            f"{source}: row 1: column {COLUMN!r} is missing; found: {found}; name it, or give a "
            "file that is no .csv, with one name a line"
        )
    else:
        yield from _of_lines(_again(first, texts), source)


class _Text(NamedTuple):
    """Whole rows, the bytes they were, and the number of the first."""

    text: str
    size: int
    row: int


def _again(first: tuple[str, int, int], rest: Iterator[_Text]) -> Iterator[_Text]:
    yield _Text(*first)
    yield from rest


def _texts(file: BinaryIO, source: str) -> Iterator[_Text]:
    left, row, started = b"", 1, False
    while part := file.read(PART):
        left += part
        if not started:
            left, started = left.removeprefix(b"\xef\xbb\xbf"), True
        end = left.rfind(b"\n") + 1 or left.rfind(b"\r", 0, -1) + 1
        whole, left = left[:end], left[end:]
        if len(left) > PART:
            raise _too_long(source, row + _line_ends(whole))
        if whole:
            yield _Text(_decoded(whole, source, row), len(whole), row)
            row += _line_ends(whole)
    if left:
        yield _Text(_decoded(left, source, row), len(left), row)


def _too_long(source: str, row: int) -> InputError:
    return InputError(f"{source}: row {row}: over {LONGEST:,} characters; give one name a line")


def _line_ends(content: bytes) -> int:
    return content.count(b"\n") or content.count(b"\r")


def _decoded(content: bytes, source: str, row: int) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        place = row + _line_ends(content[: error.start])
        raise InputError(
            f"{source}: row {place}: byte 0x{content[error.start]:02x} is not UTF-8; save the "
            "file as UTF-8"
        ) from error
    if "\0" in text:
        place = row + _line_ends(text[: text.index("\0")].encode())
        raise InputError(f"{source}: row {place}: not a text file; save it as UTF-8")
    return text


def _header(text: str) -> list[str]:
    try:
        fields = next(csv.reader(io.StringIO(text, newline=""), strict=True), [])
    except csv.Error:
        return []
    return [field.strip() for field in fields]


def _of_lines(texts: Iterator[_Text], source: str) -> Iterator[Names]:
    row = 1
    for text, size, _ in texts:
        lines = text.splitlines()
        rows = range(row, row + len(lines))
        if not all(map(str.strip, lines)):
            place = next(r for r, line in zip(rows, lines, strict=True) if not line.strip())
            raise InputError(f"{source}: row {place}: empty; give one name a line")
        if max(map(len, lines), default=0) > LONGEST:
            raise _too_long(source, row + [len(line) > LONGEST for line in lines].index(True))
        yield Names(lines, rows, size)
        row += len(lines)


def _of_csv(texts: Iterator[_Text], source: str, header: list[str]) -> Iterator[Names]:
    if header.count(COLUMN) > 1:
        raise InputError(f"{source}: row 1: column {COLUMN!r} stands there twice; keep one")
    sizes: list[int] = []

    def lines() -> Iterator[str]:
        for text in texts:
            sizes.append(text.size)
            yield from io.StringIO(text.text, newline="")

    reader = csv.reader(lines(), strict=True)
    row = _rows_of(next(reader))
    while True:
        records: list[list[str]] = []
        failed = None
        try:
            records.extend(islice(reader, RECORDS))
        except csv.Error as error:
            failed = error  # the records before it are there, and come first
        ends = list(accumulate(map(_rows_of, records), initial=row))
        rows = [end for end, fields in zip(ends[1:], records, strict=True) if fields]
        records = [fields for fields in records if fields]  # an empty line is no record
        names = _column(records, rows, source, header)
        if failed is not None:
            raise InputError(f"{source}: row {ends[-1] + 1}: not valid CSV: {failed}") from failed
        if not names:
            return
        yield Names(names, rows, sum(sizes))
        row = ends[-1]
        sizes.clear()


def _rows_of(fields: list[str]) -> int:
    """How many lines of the file a record is."""
    return 1 + sum(field.count("\n") for field in fields)


def _column(records: list[list[str]], rows: list[int], source: str, header: list[str]) -> list[str]:
    """The names, all checked."""
    column, width = header.index(COLUMN), len(header)
    for row, fields in zip(rows, records, strict=True):
        if len(fields) != width:
            raise InputError(
                f"{source}: row {row}: {len(fields)} fields where the header names {width} "
                "columns; quote a field that holds a comma"
            )
        if not fields[column].strip():
            raise InputError(
                f"{source}: row {row}, column {COLUMN}: empty; fill it or drop the row"
            )
        if len(fields[column]) > LONGEST:
            raise _too_long(source, row)
    return [fields[column] for fields in records]
