"""Notes on names unlike those of training, or without a prediction: few lines for many names."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence

from npnlp.classifier.classifier import Classifier
from npnlp.classifier.prediction import Prediction
from npnlp.cli.failure import one_line
from npnlp.text.encoding import COMPOSED, SAMPLE, characters_of
from npnlp.text.letter_case import AS_WRITTEN, RARE
from npnlp.text.name_file import Names

#: The most characters that a note shows, and the most names that have a note of their own.
CHARACTERS, NAMES = 20, 10


class Unlike:
    """Counts names in a letter case, or of a length, that training has not seen, for one note."""

    def __init__(self, classifier: Classifier) -> None:
        self._seen, case = classifier.vectorizer.seen, classifier.vectorizer.letter_case
        self._read = "" if case == AS_WRITTEN else f", read in {case} case"
        self._counts: Counter[str] = Counter()
        self._first = ""

    def see(self, part: Names, distinct: list[str]) -> None:
        """Look at a part, and ``distinct``, each of its names once.

        Where fewer than one in a hundred is unlike, of a sample of many, the names look alike.
        """
        sample = distinct[:: len(distinct) // SAMPLE + 1]
        odd = self._seen.unlike(sample) if self._seen else {}
        if self._seen is None or sum(map(len, odd.values())) <= RARE * len(sample):
            return
        found = self._seen.unlike(distinct)
        for what, names in found.items():
            once = part.names is distinct
            self._counts[what] += (
                len(names) if once else sum(map(set(names).__contains__, part.names))
            )
        if not self._first:
            place = min(part.names.index(names[0]) for names in found.values())
            self._first = f"{shown(part.names[place])} in row {part.rows[place]}"

    def note(self) -> None:
        """Print one line where there was any."""
        total = self._counts.total()
        if not total:
            return
        names = "1 name is" if total == 1 else f"{total:,} names are"
        whats = "; ".join(
            f"{count:,} {what}{self._read if what.startswith('in ') else ''}"
            for what, count in self._counts.items()
        )
        _print(f"{names} written unlike those of training, the first is {self._first}: {whats}")


class Unknown:
    """Counts names with unknown characters, part by part, for one note at the end."""

    def __init__(self, classifier: Classifier) -> None:
        self._known = classifier.vectorizer.char_vocab
        self._characters: dict[str, None] = {}
        self._names = self._row = 0
        self._vectorizer, self._unlike = classifier.vectorizer, Unlike(classifier)

    def see(self, part: Names, distinct: list[str]) -> None:
        """Look at a part, and ``distinct``, each of its names once."""
        self._unlike.see(part, distinct)
        names = _holding(self._doubtful(characters_of(distinct)), distinct)
        read = ["".join(self._vectorizer.parts_as_read(name)) for name in names]
        unknown = [c for c in characters_of(read) if c not in self._known]
        if not unknown:
            return
        self._characters |= dict.fromkeys(unknown[:CHARACTERS])
        holds = re.compile(f"[{re.escape(''.join(unknown))}]").search
        concerned = {name for name, each in zip(names, read, strict=True) if holds(each)}
        rows = [r for r, name in zip(part.rows, part.names, strict=True) if name in concerned]
        self._row = self._row or rows[0]
        self._names += len(rows)

    def _doubtful(self, characters: str) -> str:
        """Those that may be unknown in some letter case, or composed with another."""
        return "".join(
            c for c in characters
            if c >= chr(COMPOSED) or any(each not in self._known
                                         for each in {c, *c.lower(), *c.upper(), *c.title()})
        )  # fmt: skip

    def note(self) -> None:
        """Print one line where there was any."""
        if self._names:
            seen = _listed(list(self._characters))
            names = "1 name" if self._names == 1 else f"{self._names:,} names"
            _print(f"the model has never seen {seen}, in {names}, the first in row {self._row}")
        self._unlike.note()


def note_blank(rows: Sequence[int]) -> None:
    """One line on the rows without a prediction, where there are any."""
    if rows:
        names = "1 name has" if len(rows) == 1 else f"{len(rows):,} names have"
        _print(f"{names} no prediction, the first in row {rows[0]}: its numbers are not finite")


def note_unknown(classifier: Classifier, predictions: list[Prediction]) -> None:
    """A line for each of the first names with unknown characters, and one for all others.

    One more for names that are otherwise unlike those of training.
    """
    others = 0
    found = 0
    for prediction in predictions:
        unknown = dict.fromkeys(classifier.unknown_characters(prediction.surname))
        if not unknown:
            continue
        found += 1
        if found <= NAMES:
            _print(
                f"the model has never seen {_listed(list(unknown))} of {shown(prediction.surname)}"
            )
        else:
            others += 1
    if others:
        _print(f"nor all characters of {others:,} other names")
    names, unlike = [prediction.surname for prediction in predictions], Unlike(classifier)
    unlike.see(Names(names, range(1, len(names) + 1), 0), names)
    unlike.note()


def shown(text: str) -> str:
    """The text for a note: its first forty characters, control characters escaped."""
    short = text if len(text) <= 40 else f"{text[:40]}..."
    return short if short.isprintable() else repr(short)


def _holding(characters: str, names: list[str]) -> list[str]:
    """The names with one of the characters."""
    if not characters:
        return []
    return list(filter(re.compile(f"[{re.escape(characters)}]").search, names))


def _listed(characters: list[str]) -> str:
    more = " ..." if len(characters) > CHARACTERS else ""
    return " ".join(map(shown, characters[:CHARACTERS])) + more


def _print(note: str) -> None:
    print(f"npnlp predict: note: {one_line(note)}", file=sys.stderr)
