"""Reading the names of a file of any size, part by part: one name a line, or a column of a CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import BinaryIO, NamedTuple

from npnlp.errors import InputError
from npnlp.summary import summarized
from npnlp.text.table import wrong_width

#: Bytes that are read at once, some 2^18 names. In larger parts more names share their beginnings,
#: but their states no longer fit into the processor's cache.
PART = 5 * 2**19
#: A name has at most this many characters: a file without line ends is no list of names.
LONGEST = 2**16
#: A part of a CSV has at most this many records.
RECORDS = 2**18
COLUMN = "surname"
#: The byte-order mark of UTF-8.
MARK = b"\xef\xbb\xbf"


@summarized
class Names(NamedTuple):
    """Names as the file has them, in its order; the ``row`` of each; how many bytes they were."""

    names: list[str]
    rows: Sequence[int]
    size: int


class _Text(NamedTuple):
    """Complete lines: their text, their size in bytes, and the row of the first."""

    text: str
    size: int
    row: int


def read_names(file: BinaryIO, source: str) -> Iterator[Names]:
    """The names of ``file``, which messages call ``source``.

    UTF-8 with or without a byte-order mark. Where the first row names a column ``surname`` the file
    is read as a CSV, which a file named ``*.csv`` has to be; else every line is a name. Memory does
    not grow with the file. Raises :class:`InputError` naming the row (and column) of what is not
    UTF-8, not CSV, empty, or too long.
    """
    texts = _texts(file, source)
    first = next(texts, _Text("", 0, 1))
    texts = chain([first], texts)
    header = _header(first.text)
    if COLUMN in header:
        yield from _of_csv(texts, source, header)
    elif source.lower().endswith(".csv"):
        found = ", ".join(header)[:80] or "nothing"
        raise InputError(
            f"{source}: row 1: column {COLUMN!r} is missing; found: {found}; name it, or give a "
            "file that is no .csv, with one name a line"
        )
    else:
        yield from _of_lines(texts, source)


def _texts(file: BinaryIO, source: str) -> Iterator[_Text]:
    """The file in parts that end where lines end."""
    rest, row = file.read(len(MARK)).removeprefix(MARK), 1
    while part := file.read(PART):
        rest += part
        end = rest.rfind(b"\n") + 1 or rest.rfind(b"\r", 0, -1) + 1
        lines, rest = rest[:end], rest[end:]
        if len(rest) > PART:
            raise _too_long(source, row + _line_ends(lines))
        if lines:
            yield _decoded(lines, source, row)
            row += _line_ends(lines)
    if rest:
        yield _decoded(rest, source, row)


def _line_ends(content: bytes) -> int:
    return content.count(b"\n") or content.count(b"\r")


def _decoded(content: bytes, source: str, row: int) -> _Text:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        place = row + _line_ends(content[: error.start])
        raise InputError(
            f"{source}: row {place}: byte 0x{content[error.start]:02x} is not UTF-8; save the "
            "file as UTF-8"
        ) from error
    if "\0" in text:
        place = row + _line_ends(content[: content.index(0)])
        raise InputError(f"{source}: row {place}: not a text file; save it as UTF-8")
    return _Text(text, len(content), row)


def _header(text: str) -> list[str]:
    """The fields of the first row; none where it is no CSV."""
    try:
        fields = next(csv.reader(io.StringIO(text, newline=""), strict=True), [])
    except csv.Error:
        return []
    return [field.strip() for field in fields]


def _of_lines(texts: Iterator[_Text], source: str) -> Iterator[Names]:
    for text, size, row in texts:
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        # Not str.splitlines(), which also splits at characters that a name may contain (U+2028).
        names = text.removesuffix("\n").split("\n") if text else []
        if not all(map(str.strip, names)):
            empty = row + [bool(name.strip()) for name in names].index(False)
            raise InputError(f"{source}: row {empty}: empty; give one name a line")
        if max(map(len, names), default=0) > LONGEST:
            raise _too_long(source, row + [len(name) > LONGEST for name in names].index(True))
        yield Names(names, range(row, row + len(names)), size)


def _of_csv(texts: Iterator[_Text], source: str, header: list[str]) -> Iterator[Names]:
    if header.count(COLUMN) > 1:
        raise InputError(f"{source}: row 1: column {COLUMN!r} stands there twice; keep one")
    column, width = header.index(COLUMN), len(header)
    sizes: list[int] = []  # of the texts that the names at hand were read from

    def lines() -> Iterator[str]:
        for text in texts:
            sizes.append(text.size)
            yield from io.StringIO(text.text, newline="")

    reader = csv.reader(lines(), strict=True)
    next(reader)
    names: list[str] = []
    rows: list[int] = []
    row = reader.line_num  # the line that a record ends on
    try:
        for fields in reader:
            row = reader.line_num
            if not fields:
                continue  # an empty line
            if len(fields) != width:
                raise wrong_width(source, row, len(fields), width)
            name = fields[column]
            if not name.strip():
                raise InputError(
                    f"{source}: row {row}, column {COLUMN}: empty; fill it or drop the row"
                )
            if len(name) > LONGEST:
                raise _too_long(source, row)
            names.append(name)
            rows.append(row)
            if len(names) == RECORDS:
                yield Names(names, rows, sum(sizes))
                names, rows = [], []
                sizes.clear()
    except csv.Error as error:
        raise InputError(f"{source}: row {row + 1}: not valid CSV: {error}") from error
    if names:
        yield Names(names, rows, sum(sizes))


def _too_long(source: str, row: int) -> InputError:
    return InputError(f"{source}: row {row}: over {LONGEST:,} characters; give one name a line")
