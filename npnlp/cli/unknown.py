"""Notes on names with unknown characters or without a prediction: few lines for many names."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from npnlp.classifier.classifier import Classifier, Prediction
from npnlp.cli.failure import one_line
from npnlp.text.encoding import characters_of, clean_names
from npnlp.text.name_file import Names

#: The most characters that a note shows, and the most names that have a note of their own.
CHARACTERS, NAMES = 20, 10


class Unknown:
    """Counts names with unknown characters, part by part, for one note at the end."""

    def __init__(self, classifier: Classifier) -> None:
        self._known = classifier.vectorizer.char_vocab
        self._characters: dict[str, None] = {}
        self._names = self._row = 0

    def see(self, part: Names, distinct: list[str]) -> None:
        """Look at a part, and ``distinct``, each of its names once."""
        cleaned = clean_names(distinct)
        unknown = [c for c in characters_of(cleaned) if c not in self._known]
        if not unknown:
            return
        self._characters |= dict.fromkeys(unknown[:CHARACTERS])
        holds = re.compile(f"[{re.escape(''.join(unknown))}]").search
        concerned = {name for name, clean in zip(distinct, cleaned, strict=True) if holds(clean)}
        rows = [r for r, name in zip(part.rows, part.names, strict=True) if name in concerned]
        self._row = self._row or rows[0]
        self._names += len(rows)

    def note(self) -> None:
        """Print one line where there was any."""
        if self._names:
            seen = _listed(list(self._characters))
            names = "1 name" if self._names == 1 else f"{self._names:,} names"
            _print(f"the model has never seen {seen}, in {names}, the first in row {self._row}")


def note_blank(rows: Sequence[int]) -> None:
    """One line on the rows without a prediction, where there are any."""
    if rows:
        names = "1 name has" if len(rows) == 1 else f"{len(rows):,} names have"
        _print(f"{names} no prediction, the first in row {rows[0]}: its numbers are not finite")


def note_unknown(classifier: Classifier, predictions: list[Prediction]) -> None:
    """A line for each of the first names with unknown characters, and one for all others."""
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


def shown(text: str) -> str:
    """The text for a note: its first forty characters, control characters escaped."""
    short = text if len(text) <= 40 else f"{text[:40]}..."
    return short if short.isprintable() else repr(short)


def _listed(characters: list[str]) -> str:
    more = " ..." if len(characters) > CHARACTERS else ""
    return " ".join(map(shown, characters[:CHARACTERS])) + more


def _print(note: str) -> None:
    print(f"npnlp predict: note: {one_line(note)}", file=sys.stderr)
