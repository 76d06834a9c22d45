"""Compile the project's own table of surnames, `npnlp/data/surnames.csv`.

Two sources are put together: the lists of last names in Faker's person
providers (MIT licence), and the lists written by hand in `known/`. Beside them
`excluded/` names what a list of Faker's holds and should not, `shared.txt` the
names that truly stand under several nationalities, and `always.txt` common
names that must not be cut. Faker is needed to build the table only, never to
use it. The build has no randomness: whatever looks like a choice is made by a
keyed hash of the name, so running this again with the same lists and the same
Faker gives the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import io
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEFAULT_OUT = HERE.parents[1] / "npnlp" / "data" / "surnames.csv"

#: The Faker release the published table was made with; others may differ.
FAKER_VERSION = "40.54.0"

#: Chosen once among many keys, because it splits every nationality evenly.
SPLIT_KEY = 18682
PICK_KEY = "pick"
SPELLING_KEY = "spelling"

SPLITS = ("train", "val", "test")
MINIMUM_PER_SPLIT = 9
MINIMUM_PER_NATIONALITY = 75
MINIMUM_PAIRS = 5500

RUSSIAN = {
    "а": "a", "б": "b", "в": "v", "г": "g", "д": "d", "е": "e", "ё": "yo",
    "ж": "zh", "з": "z", "и": "i", "й": "y", "к": "k", "л": "l", "м": "m",
    "н": "n", "о": "o", "п": "p", "р": "r", "с": "s", "т": "t", "у": "u",
    "ф": "f", "х": "kh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch",
    "ъ": "", "ы": "y", "ь": "", "э": "e", "ю": "yu", "я": "ya",
}  # fmt: skip

GREEK = {
    "αι": "ai", "ει": "ei", "οι": "oi", "ου": "ou", "γγ": "ng", "γχ": "nch",
    "γξ": "nx", "γκ": "gk", "μπ": "mb", "ντ": "nt", "α": "a", "β": "v",
    "γ": "g", "δ": "d", "ε": "e", "ζ": "z", "η": "i", "θ": "th", "ι": "i",
    "κ": "k", "λ": "l", "μ": "m", "ν": "n", "ξ": "x", "ο": "o", "π": "p",
    "ρ": "r", "σ": "s", "ς": "s", "τ": "t", "υ": "y", "φ": "f", "χ": "ch",
    "ψ": "ps", "ω": "o",
}  # fmt: skip

KOREAN = {
    "김": "Kim", "이": "Lee", "박": "Park", "정": "Jung", "최": "Choi",
    "조": "Cho", "강": "Kang", "윤": "Yoon", "장": "Jang", "임": "Lim",
    "한": "Han", "오": "Oh", "서": "Seo", "신": "Shin", "권": "Kwon",
    "황": "Hwang", "안": "Ahn", "송": "Song", "류": "Ryu", "전": "Jeon",
    "홍": "Hong", "고": "Ko", "문": "Moon", "양": "Yang", "손": "Son",
    "배": "Bae", "백": "Baek", "허": "Heo", "유": "Yoo", "남": "Nam",
    "심": "Shim", "노": "Noh", "하": "Ha", "곽": "Kwak", "성": "Sung",
    "차": "Cha", "주": "Joo", "우": "Woo", "구": "Koo", "나": "Na",
    "민": "Min", "진": "Jin", "지": "Ji", "엄": "Eom",
}  # fmt: skip

#: Letters that have no decomposition into a base letter and a mark.
UNDECOMPOSED = str.maketrans({"ł": "l", "Ł": "L", "ß": "ss", "đ": "d", "Đ": "D"})
GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"})

Transliterate = Callable[[str], str]

#: Names by what identifies them, whatever their spelling.
Names = dict[str, str]


def same(name: str) -> str:
    """Return the name as it is, for sources in Latin letters."""
    return name


def capitalised(name: str) -> str:
    """Turn Faker's upper-case Taiwanese names into ordinary ones."""
    return name.capitalize()


def from_russian(name: str) -> str:
    """Romanise a Russian name the way English texts usually do.

    A leading Е and an е after a soft sign sound as 'ye' and are written so;
    elsewhere the plain 'e' is the custom.
    """
    text = re.sub("^е|(?<=[ьъ])е", "йе", name.lower())
    text = re.sub("[иы]й$", "ы", text)
    return "".join(RUSSIAN[letter] for letter in text).capitalize()


def from_greek(name: str) -> str:
    """Romanise a Greek name, after the Greek standard with English habits.

    The standard's initial 'mp', 'nt' and 'gk' become B, D and G here, which is
    how these names are met in English.
    """
    text = without_marks(name.lower())
    text = re.sub("^μπ", "b", text)
    text = re.sub("^ντ", "d", text)
    text = re.sub("^γκ", "g", text)
    text = re.sub("([αε])υ(?=[θκξπσςτφχψ]|$)", r"\1f", text)
    text = re.sub("([αε])υ", r"\1v", text)
    pairs = sorted(GREEK, key=len, reverse=True)
    text = re.sub("|".join(pairs), lambda found: GREEK[found.group()], text)
    return text.capitalize()


def from_korean(name: str) -> str:
    """Romanise a Korean family name by its most usual English spelling."""
    return KOREAN[name]


@dataclass(frozen=True)
class Source:
    """One list of last names in Faker: where it is and how to spell it.

    A list that leads holds the common names, and is cut after all others.
    """

    locale: str
    attribute: str = "last_names"
    spell: Transliterate = same
    leads: bool = False


@dataclass(frozen=True)
class Plan:
    """How one nationality is compiled.

    `limit` keeps the big lists from drowning the small ones; `marked` is the
    share, in hundredths, of names that keep their diacritics.
    """

    limit: int
    sources: tuple[Source, ...] = ()
    marked: int = 25


PLANS: dict[str, Plan] = {
    "Arabic": Plan(700),
    "Chinese": Plan(
        450,
        (
            Source("zh_CN", "last_romanized_names"),
            Source("zh_TW", "last_romanized_names", capitalised),
        ),
    ),
    "Czech": Plan(700, (Source("cs_CZ", "last_names_male"),)),
    "Dutch": Plan(700, (Source("nl_BE"),)),
    "English": Plan(700, (Source("en_GB", leads=True),)),
    "French": Plan(650, (Source("fr_FR", leads=True), Source("fr_CA"))),
    "German": Plan(
        700,
        (Source("de_DE"), Source("de_AT"), Source("de_CH")),
    ),
    "Greek": Plan(600, (Source("el_GR", "last_names_male", from_greek),)),
    "Irish": Plan(700),
    "Italian": Plan(700, (Source("it_IT"),)),
    "Japanese": Plan(700, (Source("ja_JP", "last_romanized_names"),)),
    "Korean": Plan(300, (Source("ko_KR", "last_names", from_korean),)),
    "Polish": Plan(
        650,
        (
            Source("pl_PL", "male_last_names", leads=True),
            Source("pl_PL", "unisex_last_names"),
        ),
    ),
    "Portuguese": Plan(450, (Source("pt_PT"), Source("pt_BR"))),
    "Russian": Plan(700, (Source("ru_RU", "last_names_male", from_russian),)),
    "Scottish": Plan(600),
    "Spanish": Plan(650, (Source("es_CO", leads=True), Source("es_ES"), Source("es_MX"))),
    "Vietnamese": Plan(300, (Source("vi_VN"),), marked=0),
}

#: Where two Faker lists hold the same name, the nationality named first in
#: this order keeps it: those whose spelling marks a name as their own lead.
PRECEDENCE = (
    "Japanese", "Korean", "Vietnamese", "Chinese", "Russian", "Greek", "Czech",
    "Portuguese", "Spanish", "Italian", "French", "German", "Dutch", "English",
    "Polish", "Irish", "Scottish", "Arabic",
)  # fmt: skip


def keyed(key: object, text: str) -> int:
    """Return a number that depends on the key and the text alone."""
    digest = hashlib.sha256(f"{key}:{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def without_marks(text: str) -> str:
    """Drop diacritics, leaving the base letters."""
    parts = unicodedata.normalize("NFD", text.translate(UNDECOMPOSED))
    return "".join(letter for letter in parts if not unicodedata.combining(letter))


def plain(name: str, nationality: str) -> str:
    """Spell a name without diacritics, in German by the custom of ae, oe, ue."""
    text = unicodedata.normalize("NFC", name)
    return without_marks(text.translate(GERMAN) if nationality == "German" else text)


def identity(name: str) -> str:
    """Return what makes two spellings the same name, for splits and repeats."""
    return without_marks(name).casefold()


def read_lines(path: Path) -> list[str]:
    """Read a list with one entry a line; '#' starts a remark."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def read_known(nationality: str) -> list[str]:
    """Read the names written by hand for a nationality."""
    return [tidy(line) for line in read_lines(HERE / "known" / f"{nationality}.txt")]


def read_pinned() -> dict[str, list[str]]:
    """Read, by nationality, the names that no limit may cut off.

    They are those that deliberately stand under several nationalities, and
    the commonest names of the nationalities with more names than places.
    """
    pinned: dict[str, list[str]] = defaultdict(list)
    for line in read_lines(HERE / "shared.txt"):
        surname, _, nationalities = line.partition(":")
        for nationality in nationalities.split(","):
            pinned[nationality.strip()].append(tidy(surname))
    for line in read_lines(HERE / "always.txt"):
        nationality, _, surnames = line.partition(":")
        pinned[nationality].extend(map(tidy, surnames.split(",")))
    return pinned


def read_faker(source: Source) -> list[str]:
    """Read one of Faker's lists straight from its provider, as romanised."""
    module = importlib.import_module(f"faker.providers.person.{source.locale}")
    return [source.spell(str(name)) for name in getattr(module.Provider, source.attribute)]


def tidy(name: str) -> str:
    """Normalise the encoding, the blanks and the capital of the first letter."""
    text = " ".join(unicodedata.normalize("NFC", name).replace("’", "'").split())
    return text[:1].upper() + text[1:]


def usable(name: str) -> bool:
    """Say whether a name is made of letters, with single joints in between."""
    return bool(re.fullmatch(r"[^\W\d_]+(?:(?:['-]| | ['-])[^\W\d_]+)*", name)) and len(name) > 1


def gather_faker(nationality: str) -> Names:
    """Collect Faker's names for a nationality, less the excluded, by identity."""
    excluded = {
        plain_key(line, nationality)
        for line in read_lines(HERE / "excluded" / f"{nationality}.txt")
    }
    original = {
        name
        for source in PLANS[nationality].sources
        for name in map(tidy, read_faker(source))
        if usable(name)
    }
    names: Names = {}
    for name in sorted(original):
        if (
            plain_key(name, nationality) not in excluded
            and plain_key(name, nationality) not in names
        ):
            names[plain_key(name, nationality)] = name
    return names


def plain_key(name: str, nationality: str) -> str:
    """Return the identity of a name as the nationality would plainly spell it."""
    return identity(plain(name, nationality))


def keep_own(faker: dict[str, Names], known: dict[str, Names]) -> None:
    """Drop Faker's names where another nationality has the better claim.

    A list written by hand beats a list of Faker's; between two of Faker's the
    order of precedence decides. Names under several nationalities are then
    those written down as such, by hand.
    """
    taken = {key: nationality for nationality in known for key in known[nationality]}
    for nationality in PRECEDENCE:
        for key in sorted(faker[nationality]):
            if key in known[nationality]:
                continue
            if taken.setdefault(key, nationality) != nationality:
                del faker[nationality][key]


def leading(nationality: str) -> set[str]:
    """Return the identities of the names in Faker's leading lists."""
    return {
        plain_key(tidy(name), nationality)
        for source in PLANS[nationality].sources
        if source.leads
        for name in read_faker(source)
    }


def limited(nationality: str, known: Names, faker: Names, pinned: set[str]) -> list[str]:
    """Pick names up to the limit: pinned, leading, hand-written, then the rest.

    Within each of these the keyed hash decides, so that no part of the
    alphabet is favoured.
    """
    merged = {**faker, **known}
    common = leading(nationality)

    def rank(key: str) -> tuple[int, int]:
        group = 0 if key in pinned else 1 if key in common else 2 if key in known else 3
        return group, keyed(PICK_KEY, key)

    return [merged[key] for key in sorted(merged, key=rank)[: PLANS[nationality].limit]]


def spelled(name: str, nationality: str) -> str:
    """Choose between the name's own diacritics and plain letters.

    English-language lists drop most diacritics but not all, and so does this.
    """
    keeps = keyed(SPELLING_KEY, name) % 100 < PLANS[nationality].marked
    return name if keeps else plain(name, nationality)


def split_of(name: str, key: object = SPLIT_KEY) -> str:
    """Assign a split by the name alone, 70/15/15.

    A surname falls in the same split under every nationality and with or
    without diacritics, so nothing seen in training returns in the test.
    """
    place = keyed(key, identity(name)) % 1000
    return SPLITS[0] if place < 700 else SPLITS[1] if place < 850 else SPLITS[2]


def collect() -> dict[str, list[str]]:
    """Compile the names of every nationality, in their final spelling."""
    pinned = read_pinned()
    known: dict[str, Names] = {}
    for nationality in PLANS:
        names = read_known(nationality) + pinned[nationality]
        known[nationality] = {plain_key(name, nationality): name for name in reversed(names)}
    faker = {nationality: gather_faker(nationality) for nationality in PLANS}
    keep_own(faker, known)
    table: dict[str, list[str]] = {}
    for nationality in PLANS:
        first = {plain_key(name, nationality) for name in pinned[nationality]}
        names = limited(nationality, known[nationality], faker[nationality], first)
        table[nationality] = sorted({spelled(name, nationality) for name in names})
    return table


def rows_of(table: dict[str, list[str]]) -> list[tuple[str, str, str]]:
    """Lay the names out as rows, in plain codepoint order."""
    return [
        (nationality, split_of(name), name)
        for nationality in sorted(table)
        for name in table[nationality]
    ]


def check(rows: Iterable[tuple[str, str, str]]) -> None:
    """Refuse to write a table that breaks one of its own promises."""
    listed = list(rows)
    pairs = Counter((nationality, name) for nationality, _, name in listed)
    if len(pairs) != len(listed) or len(pairs) < MINIMUM_PAIRS:
        raise ValueError(f"{len(listed)} rows hold {len(pairs)} different pairs")
    cells = Counter((nationality, split) for nationality, split, _ in listed)
    sizes = Counter(nationality for nationality, _, _ in listed)
    for nationality in PLANS:
        small = min(cells[nationality, split] for split in SPLITS)
        if small < MINIMUM_PER_SPLIT or sizes[nationality] < MINIMUM_PER_NATIONALITY:
            raise ValueError(f"too few names for {nationality}: {sizes[nationality]}, {small}")
    for _, _, name in listed:
        if not usable(name) or name != tidy(name):
            raise ValueError(f"not written as a surname: {name!r}")


def render(rows: Iterable[tuple[str, str, str]]) -> str:
    """Write the rows as CSV text with a header and LF line ends."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("nationality", "split", "surname"))
    writer.writerows(rows)
    return buffer.getvalue()


def warn_of_version() -> None:
    """Say so where another Faker than the published table's is installed."""
    installed = str(importlib.import_module("faker").VERSION)
    if installed != FAKER_VERSION:
        print(f"note: Faker {installed}, the published table used {FAKER_VERSION}")


def main() -> None:
    """Compile, check and write the table."""
    parser = argparse.ArgumentParser(description="Compile the table of surnames.")
    parser.add_argument(
        "--out",
        type=Path,
        default=DEFAULT_OUT,
        help="where to write the CSV (%(default)s)",
    )
    out: Path = parser.parse_args().out
    warn_of_version()
    rows = rows_of(collect())
    check(rows)
    out.write_text(render(rows), encoding="utf-8", newline="\n")
    print(f"{len(rows)} pairs written to {out}")


if __name__ == "__main__":
    main()
