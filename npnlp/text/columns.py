"""Which columns of a table hold what, and what stands between its fields."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from npnlp.errors import InputError, short
from npnlp.summary import summarized

DELIMITERS = ",;\t"
#: By role, the names that a column may have, in any letter case; the first group found counts.
NAMES = {
    "surname": (("surname",), ("last name", "lastname", "family name", "familyname"), ("name",)),
    "nationality": (("nationality",), ("label", "country", "class")),
    "split": (("split",),),
}
OPTIONS = {"surname": "--column", "nationality": "--label-column", "split": "--split-column"}
LINE = r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+"
#: What a spreadsheet writes above the header to say what its delimiter is.
SEP = r'(?i)"?sep=([^"\r\n])"?(?:\r\n|\r|\n)'


@dataclass(frozen=True)
class Columns:
    """The columns that somebody has named, and the delimiter; None is found out."""

    surname: str | None = None
    nationality: str | None = None
    split: str | None = None
    delimiter: str | None = None

    def __post_init__(self) -> None:
        """Raise :class:`InputError` for a delimiter that is none."""
        found = self.delimiter
        if found is not None and (len(found) != 1 or found in '"\r\n '):
            raise InputError(f"delimiter {short(found)} has to be one character, such as ; or tab")


ANY = Columns()


@summarized
@dataclass(frozen=True)
class Layout:
    """The header of a table: its fields, and where each role stands.

    ``above`` is the line ``sep=;`` where there is one; ``lines`` is how many lines of the file
    stand above the first record.
    """

    above: str
    lines: int
    delimiter: str
    fields: tuple[str, ...]
    places: dict[str, int]


def find_layout(
    text: str, needed: Iterable[str], optional: Iterable[str], given: Columns
) -> Layout:
    """The layout of the table that begins with ``text``.

    The delimiter is the one with which the header has the columns that are needed. Raises
    :class:`InputError`, not naming the file, where a column is missing, or could be several.
    """
    said = re.match(SEP, text)
    above = f"sep={said[1]}\n" if said else ""
    body = text[said.end() :] if said else text
    known = given.delimiter or (said[1] if said else DELIMITERS)
    most, wrong = 0, InputError("row 1: not valid CSV")
    if not body.strip():
        wrong = InputError("the file is empty; its first row has to name the columns")
    for delimiter in known:
        fields, lines = _header(body, delimiter)
        try:
            places = _places(fields, needed, optional, given)
            return Layout(above, lines + bool(said), delimiter, tuple(fields), places)
        except InputError as error:
            if len(fields) > most:
                most, wrong = len(fields), error
    raise wrong


def _header(body: str, delimiter: str) -> tuple[list[str], int]:
    """The fields of the first record that is not empty, and the line that it ends on."""
    lines = (line[0] for line in re.finditer(LINE, body))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for fields in filter(None, reader):
            return [field.strip() for field in fields], reader.line_num
    except csv.Error:
        pass
    return [], 0


def _places(
    header: Sequence[str], needed: Iterable[str], optional: Iterable[str], given: Columns
) -> dict[str, int]:
    roles = [*needed, *optional]
    places = {
        role: _named(header, name) for role in roles if (name := getattr(given, role)) is not None
    }
    if len(set(places.values())) < len(places):
        raise InputError("two of the options --column, --label-column and --split-column name one")
    free = header
    if places:
        free = ["" if n in places.values() else field for n, field in enumerate(header)]
    for role in roles:
        if role in places:
            continue
        place = _found(free, role)
        if place is not None:
            places[role] = place
        elif role in needed:
            found = plain(", ".join(header)[:80]) or "nothing"
            also = ", or what stands between its fields with --delimiter" * (len(header) == 1)
            raise InputError(
                f"row 1: column {role!r} is missing; found: {found}; the first row names the "
                f"columns: say which one it is with {OPTIONS[role]}{also}"
            )
    return places


def _named(header: Sequence[str], name: str) -> int:
    """The place of a column that was asked for; letter by letter, or else in any letter case."""
    for fields, wanted in ((list(header), name), ([*map(folded, header)], folded(name))):
        if fields.count(wanted) > 1:
            raise InputError(f"row 1: column {name!r} stands there twice; keep one")
        if wanted in fields:
            return fields.index(wanted)
    found = plain(", ".join(header)[:80]) or "nothing"
    raise InputError(f"row 1: column {name!r} is missing; found: {found}")


def _found(header: Sequence[str], role: str) -> int | None:
    if header.count(role) == 1:
        return header.index(role)
    fields = [*map(folded, header)]
    for names in NAMES[role]:
        places = [place for place, field in enumerate(fields) if field in names]
        if len(places) > 1:
            several = [header[place] for place in places]
            if len({*map(folded, several)}) == 1:
                raise InputError(f"row 1: column {several[0]!r} stands there twice; keep one")
            raise InputError(
                f"row 1: {role} may be any of the columns {', '.join(map(repr, several))}; say "
                f"which one with {OPTIONS[role]}"
            )
        if places:
            return places[0]
    return None


def folded(name: str) -> str:
    """The name of a column in small letters, its words a blank apart."""
    return " ".join(re.split(r"[\s_-]+", name.strip().casefold()))


def plain(text: str) -> str:
    """Text of the file for a message; quoted where it is unprintable, and cut where it is long."""
    return text if text.isprintable() and len(text) <= 80 else short(text, 80)


def wrong_width(
    source: object, row: int, fields: int, columns: int, delimiter: str = ","
) -> InputError:
    """The error of a record that has another number of fields than the header has columns."""
    what = {",": "a comma", ";": "a semicolon", "\t": "a tab"}.get(delimiter, repr(delimiter))
    return InputError(
        f"{source}: row {row}: {fields} fields where the header names {columns} columns; quote a "
        f"field that holds {what}"
    )
