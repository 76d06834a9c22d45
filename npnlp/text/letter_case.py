"""Letter case: in which one a model reads names, and what names it was trained on look like."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import compress
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError, short
from npnlp.text.encoding import clean_name
from npnlp.text.texts import Texts, code_points

AS_WRITTEN = "as written"


def _titled(text: str) -> str:
    """A capital at the beginning and after each character that is no letter; NFC.

    The small letter of İ is Python's ``i`` and a combining dot, which no table has: the dot goes.
    """
    titled = text.title()
    if titled.isascii():
        return titled
    return unicodedata.normalize("NFC", titled.replace("i\u0307", "i"))


def _title(names: list[str]) -> list[str]:
    """Names in one case only in title case; others, such as McMahan, as they are."""
    places = range(len(names))
    odd = [*compress(places, map(str.isupper, names)), *compress(places, map(str.islower, names))]
    if not odd:
        return names
    # All at once: a line end is no letter, and composes with none.
    titled = _titled("\n".join([names[place] for place in odd])).split("\n")
    if len(titled) != len(odd):  # names with line ends
        titled = [_titled(names[place]) for place in odd]
    read = names.copy()
    for place, name in zip(odd, titled, strict=True):
        read[place] = name
    return read


def _all(change: Callable[[str], str]) -> Callable[[list[str]], list[str]]:
    return lambda names: [unicodedata.normalize("NFC", change(name)) for name in names]


#: In which case names can be read. ``title`` changes only names in capitals or in lower case.
LETTER_CASES: dict[str, Callable[[list[str]], list[str]]] = {
    AS_WRITTEN: lambda names: names,
    "title": _title,
    "lower": _all(str.lower),
    "upper": _all(str.upper),
}
#: What a person may make of a name that a table spells in another way.
WRITINGS: tuple[Callable[[str], str], ...] = (str, str.upper, str.lower, str.title)
#: Another way of reading may cost this accuracy on names as they are written, and no more.
MOST_LOST = 0.005


def choose_letter_case(
    names: Sequence[str], labels: Sequence[Any], predict: Callable[[list[str]], Sequence[Any]]
) -> str:
    """The reading of :data:`LETTER_CASES` with the most names right, however they are written.

    Each name counts as it is written, in capitals, in lower case and in title case. ``predict``
    gives the label of each name, read as it is written. A reading with over 0.005 less accuracy on
    the names as they are written is out; of equals the first is chosen.
    """
    written = [[write(name) for name in names] for write in WRITINGS]
    read = {case: [reading(each) for each in written] for case, reading in LETTER_CASES.items()}
    distinct = list(dict.fromkeys(name for ways in read.values() for way in ways for name in way))
    label_of = dict(zip(distinct, predict(distinct), strict=True)) if distinct else {}

    def right(way: list[str]) -> int:
        return sum(label_of[name] == label for name, label in zip(way, labels, strict=True))

    least = right(read[AS_WRITTEN][0]) - MOST_LOST * len(names)
    allowed = [case for case, ways in read.items() if right(ways[0]) >= least]
    return max(allowed, key=lambda case: sum(map(right, read[case])))


def _is_mixed(name: str) -> bool:
    return name != name.lower() and name != name.upper()


#: What a name can be written in; one without letters that have a case is in none of them.
KINDS: dict[str, Callable[[str], bool]] = {
    "capitals": str.isupper,
    "lower case": str.islower,
    "capitals and lower case": _is_mixed,
}
#: What a character may say about that of a name, a bit each; see :func:`_signs`.
UPPER, NOT_UPPER, LOWER, NOT_LOWER, FALLS, RISES = (1 << n for n in range(6))
#: Of each kind the bits that a name has, and those that it has not.
SIGNS = {
    "capitals": (UPPER, NOT_UPPER),
    "lower case": (LOWER, NOT_LOWER),
    "capitals and lower case": (FALLS | RISES, 0),
}
#: A kind with a smaller fraction of the names is unlike them.
RARE = 0.01
#: A name of more than this many times as many characters as the longest is unlike them.
LONGER = 2


def _signs(character: str) -> int:
    upper, lower = character.isupper(), character.islower()
    title = character.istitle() and not upper
    found = (upper, lower or title, lower, upper or title,
             character.lower() != character, character.upper() != character)  # fmt: skip
    return sum(bit << n for n, bit in enumerate(found))


def _signs_in(text: str) -> NDArray[np.uint8]:
    """Those of each character of a text."""
    points = code_points(text)
    used = np.flatnonzero(np.bincount(points))
    table = np.zeros(int(used[-1]) + 1 if len(used) else 0, dtype=np.uint8)
    table[used] = [_signs(chr(point)) for point in used.tolist()]
    return table.take(points)


def _is_kind(holds: NDArray[np.uint8], kind: str) -> NDArray[np.bool_]:
    """Whether names whose characters have these signs are of a kind of :data:`KINDS`."""
    has, lacks = SIGNS[kind]
    found: NDArray[np.bool_] = (holds & (has | lacks)) == has
    return found


@dataclass(frozen=True)
class Seen:
    """The names of training: the longest's number of characters, and the fraction of each kind.

    Fractions are of the names of two and more characters, in :data:`KINDS`' order.
    """

    longest: int
    capitals: float
    lower: float
    mixed: float

    @classmethod
    def of(cls, names: Iterable[str] | Texts) -> Self:
        """What clean names look like."""
        longest, more, counts = 0, 0, np.zeros(len(KINDS), dtype=np.int64)
        for block in (names if isinstance(names, Texts) else Texts.of(names)).blocks():
            lengths = block.lengths
            begins = (np.cumsum(lengths) - lengths)[lengths > 0]
            if not len(begins):
                continue
            holds = np.bitwise_or.reduceat(_signs_in(block.text), begins)
            holds = holds[lengths[lengths > 0] > 1]
            longest, more = max(longest, int(lengths.max())), more + len(holds)
            counts += [np.count_nonzero(_is_kind(holds, kind)) for kind in KINDS]
        return cls(longest, *(round(int(count) / max(more, 1), 4) for count in counts))

    def unlike(self, names: list[str]) -> dict[str, list[str]]:
        """Those of ``names`` that are unlike the ones of training, by what they are, in order."""
        found: dict[str, list[str]] = {}
        for (kind, holds), share in zip(KINDS.items(), self._shares(), strict=True):
            if share < RARE:
                found[f"in {kind}"] = [n for n in filter(holds, names) if len(n.strip()) > 1]
        most = LONGER * self.longest
        if max(map(len, names), default=0) > most:
            noted = {name for those in found.values() for name in those}
            longer = [n for n in names if len(clean_name(n)) > most and n not in noted]
            found[f"longer than {most} characters"] = longer
        return {what: those for what, those in found.items() if those}

    def _shares(self) -> tuple[float, ...]:
        """The fraction of each kind; of names in letters without a case, nothing is unlike."""
        shares = self.capitals, self.lower, self.mixed
        return shares if sum(shares) > RARE else (1.0,) * len(shares)

    def to_serializable(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_serializable(cls, contents: Any) -> Self:
        """Undo :meth:`to_serializable`; raises :class:`InputError` where it cannot be."""
        names = [field.name for field in fields(cls)]
        if (
            not isinstance(contents, Mapping)
            or sorted(contents) != sorted(names)
            or type(contents["longest"]) is not int
            or contents["longest"] < 1
            or not all(
                type(contents[name]) in (int, float) and 0 <= contents[name] <= 1
                for name in names[1:]
            )
        ):
            raise InputError(
                f"seen is {short(contents)}; it has to hold longest (a whole number) and the "
                "fractions capitals, lower and mixed"
            )
        return cls(**contents)
