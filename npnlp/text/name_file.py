"""Reading the names of a file of any size, part by part: a name a line, or a column of a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO, NamedTuple

from npnlp.errors import InputError
from npnlp.summary import summarized
from npnlp.text.columns import ANY, Columns, Layout, find_layout, wrong_width
from npnlp.text.columns import plain as printable
from npnlp.text.unpacked import unpacked

#: Bytes that are read at once, some 2^18 names. In larger parts more names share their beginnings,
#: but their states no longer fit into the processor's cache.
PART = 5 * 2**19
#: A name has at most this many characters: a file without line ends is no list of names.
LONGEST = 2**16
#: What is done with a blank name: the end, no row, or a row without a prediction.
ON_EMPTY = ("error", "skip", "blank")
#: What files are called that have to be tables.
TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")


@summarized
class Names(NamedTuple):
    """Names as the file has them, in its order; the ``row`` of each; how many bytes they were.

    ``records`` are the lines of a table that the names are from, without line ends. Where a name is
    blank, ``blanks`` is true.
    """

    names: list[str]
    rows: Sequence[int]
    size: int
    records: Sequence[str] | None = None
    blanks: bool = False


@dataclass(frozen=True)
class NameFile:
    """The names of a file, and the layout of the table that it is, if it is one."""

    source: str
    parts: Iterator[Names]
    layout: Layout | None = None


class _Text(NamedTuple):
    """Complete lines: their text, their size in bytes, and the row of the first."""

    text: str
    size: int
    row: int


def read_names(
    file: BinaryIO, source: str, columns: Columns = ANY, on_empty: str = "error"
) -> NameFile:
    """The names of ``file``, which messages call ``source``.

    Text in UTF-8, or packed as :func:`npnlp.text.unpacked.unpacked` says. Where the first row names
    a column of names (:data:`npnlp.text.columns.NAMES`) the file is read as a table, which one of
    :data:`TABLES`, and one whose column or delimiter is given, has to be; else every line is a
    name. Blank lines at the end, and rows of a table that hold nothing there, are none; for blank
    names above them see :data:`ON_EMPTY`. Memory does not grow with the file. Raises
    :class:`InputError` naming the row (and column) of what is no text, not CSV, blank, or too long.
    """
    texts = _texts(file, source)
    first = next(texts, _Text("", 0, 1))
    texts = chain([first], texts)
    layout = None
    try:
        layout = find_layout(first.text, ("surname",), (), columns)
    except InputError as error:
        if columns != ANY or source.lower().endswith(TABLES):
            hint = "" if columns != ANY else "; or give a file that is no table, one name a line"
            raise InputError(f"{source}: {error}{hint}") from error
    read = _of_lines(texts, source) if layout is None else _of_table(texts, source, layout)
    return NameFile(source, _without_blanks(read, source, on_empty, layout), layout)


def _texts(file: BinaryIO, source: str) -> Iterator[_Text]:
    """The file in parts that end where lines end."""
    rest, row = b"", 1
    for part in unpacked(file, source, PART):
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
    return content.count(b"\n") + content.count(b"\r") - content.count(b"\r\n")


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
        raise InputError(
            f"{source}: row {place}: not a text file, or UTF-16 without its mark; save it as UTF-8"
        )
    return _Text(text, len(content), row)


def _of_lines(texts: Iterator[_Text], source: str) -> Iterator[Names]:
    for text, size, row in texts:
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        # Not str.splitlines(), which also splits at characters that a name may contain (U+2028).
        names = text.removesuffix("\n").split("\n") if text else []
        yield Names(names, range(row, row + len(names)), size)
        del names, text  # before the next text is read


def _of_table(texts: Iterator[_Text], source: str, layout: Layout) -> Iterator[Names]:
    """Of each text the records that are complete there; what is not begins the next text."""
    lines: list[str] = []
    row, above, size = 0, layout.lines, 0  # row: how many lines stand above these
    error: csv.Error | None = None
    for text in texts:
        # Without quotes a record is a line, whose end is not needed.
        plain = not (lines or '"' in text.text or "\r" in text.text)
        if plain:
            lines = text.text.removesuffix("\n").split("\n")
        else:
            lines += io.StringIO(text.text, newline="").readlines()
        size += text.size
        lines, row, above = lines[above:], row + above, 0
        ends: Sequence[int] = range(1, len(lines) + 1)
        names, error, goes_on = lines, None, False
        if not plain or layout.delimiter in text.text or len(layout.fields) > 1 or "" in lines:
            names, ends, error, goes_on = _parsed(lines, row, source, layout)
        used = ends[-1] if ends else 0
        if error and not goes_on:
            row += used
            break
        if len(ends) == len(lines):
            records = lines if plain else [line.rstrip("\r\n") for line in lines]
        else:
            begins = [0, *ends][:-1]
            records = ["".join(lines[a:b]).strip("\r\n") for a, b in zip(begins, ends, strict=True)]
        rows = range(row + 1, row + used + 1)  # where each record is a line
        yield Names(
            names, rows if len(rows) == len(ends) else [row + n for n in ends], size, records
        )
        lines, row, size = lines[used:], row + used, 0
        del names, ends, rows, records, text  # before the next text is read
    if error:
        raise InputError(f"{source}: row {row + 1}: not valid CSV: {error}") from error


def _parsed(
    lines: list[str], above: int, source: str, layout: Layout
) -> tuple[list[str], list[int], csv.Error | None, bool]:
    """The names of some lines, down to a damaged record, and the line that each one's record ends
    on; what is wrong with that record, and whether it may go on below the lines.
    """
    reader = csv.reader(lines, delimiter=layout.delimiter, strict=True)
    names: list[str] = []
    ends: list[int] = []
    place, width = layout.places["surname"], len(layout.fields)
    try:
        for fields in reader:
            if len(fields) == width:
                names.append(fields[place])
                ends.append(reader.line_num)
            elif fields:  # not an empty line
                row = above + reader.line_num
                raise wrong_width(source, row, len(fields), width, layout.delimiter)
    except csv.Error as error:
        return names, ends, error, reader.line_num == len(lines)
    return names, ends, None, False


def _without_blanks(
    parts: Iterator[Names], source: str, on_empty: str, layout: Layout | None
) -> Iterator[Names]:
    """The parts, blank names treated as ``on_empty`` says, and none too long.

    Blank ones are held back until one that is not follows: at the end of the file they are none.
    """
    held: list[tuple[str, int, str]] = []
    for part in parts:
        if max(map(len, part.names), default=0) > LONGEST:
            raise _too_long(source, part.rows[[len(n) > LONGEST for n in part.names].index(True)])
        if not held and all(map(str.strip, part.names)):
            yield part
            del part  # before the next one is read
            continue
        whole = [*held, *zip(part.names, part.rows, part.records or part.names, strict=True)]
        end = len(whole)
        while end and _holds_nothing(whole[end - 1][2], layout):
            end -= 1
        whole, held = whole[:end], whole[end:]
        blank = [row for name, row, _ in whole if not name.strip()]
        if blank and on_empty == "error":
            column = (
                f", column {printable(layout.fields[layout.places['surname']])}" if layout else ""
            )
            raise InputError(
                f"{source}: row {blank[0]}{column}: empty; fill it, or choose --on-empty skip or "
                "blank"
            )
        if on_empty == "skip":
            whole, blank = [each for each in whole if each[0].strip()], []
        records = [record for _, _, record in whole] if layout else None
        names, rows = [name for name, _, _ in whole], [row for _, row, _ in whole]
        yield Names(names, rows, part.size, records, bool(blank))


def _holds_nothing(record: str, layout: Layout | None) -> bool:
    return not record.replace(layout.delimiter if layout else "", "").strip('" \t').strip()


def _too_long(source: str, row: int) -> InputError:
    return InputError(f"{source}: row {row}: over {LONGEST:,} characters; give one name a line")
