"""What the labels of a table are called: nationalities, where they are some, or else classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from npnlp.text.rows import Rows

#: Those of the table that comes with npnlp, and of the book's.
NATIONALITIES = (
    "Arabic", "Chinese", "Czech", "Dutch", "English", "French", "German", "Greek", "Irish",
    "Italian", "Japanese", "Korean", "Polish", "Portuguese", "Russian", "Scottish", "Spanish",
    "Vietnamese",
)  # fmt: skip
PLURAL = {"nationality": "nationalities", "class": "classes"}


def label_word(rows: Rows) -> str:
    """``"nationality"`` where the column is called so and has one of the usual, else ``"class"``.

    A column of countries counts as well. Before columns could be named, labels of any kind had to
    stand in a column ``nationality``.
    """
    named = rows.label.strip().casefold() in ("nationality", "country")
    usual = not {*NATIONALITIES}.isdisjoint(rows.labels.values)
    return "nationality" if named and usual else "class"


def alike(labels: Iterable[str]) -> list[list[str]]:
    """Groups of labels that only letter case, or what nobody sees, tells apart."""
    groups: dict[str, list[str]] = {}
    for label in sorted(labels):
        groups.setdefault(_seen(label), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def _seen(label: str) -> str:
    """The label in small letters without invisible characters, its words a blank apart."""
    text = unicodedata.normalize("NFKC", label).casefold()
    shown = (c for c in text if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf"))
    return " ".join("".join(shown).split())
