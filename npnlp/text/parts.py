"""Names in parts: a pair such as "Garcia-Lopez" is read as the two names that it is made of.

    log p(class) = sum_i n_i log p_i(class) / sum_i n_i + constant

``p_i`` are the probabilities of part i, read by itself, and ``n_i`` is its number of characters:
so "van der" says less of "van der Berg" than "Berg" does. docs/reading-names.md compares other
means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError, require_known, short
from npnlp.text.letter_case import MOST_LOST

#: What names can be split at, by kind; the first of each kind joins the pairs that are tried.
SEPARATORS = {
    "hyphens": "-\u2010\u2011\u2012\u2013\uff0d",
    "spaces": " \t\u00a0\u2009\u202f\u3000",
    "apostrophes": "'\u2019\u2018\u02bc`\u00b4",
}
#: The kinds that people join two surnames with.
JOINING = ("hyphens", "spaces")
#: Where names are split at a kind: also behind a particle, or only between names.
EVERYWHERE, BETWEEN = WAYS = ("everywhere", "between names")
#: Words that belong to the name behind them.
PARTICLES = frozenset([
    "abu", "af", "al", "av", "bin", "d", "da", "das", "de", "del", "della", "den", "der", "di",
    "do", "dos", "du", "el", "het", "ibn", "la", "las", "le", "lo", "los", "mac", "mc", "o", "st",
    "t", "te", "ten", "ter", "van", "vom", "von", "zu", "zum", "zur",
])  # fmt: skip
#: For each kind that names are split at, the way.
SplitAt = Mapping[str, str]
AS_A_WHOLE: SplitAt = MappingProxyType({})


class Parts(NamedTuple):
    """The parts of some names: name ``places[k]`` has ``names[starts[k]:starts[k + 1]]``."""

    places: list[int]
    names: list[str]
    starts: list[int]

    def averaged(self, probabilities: NDArray[Any]) -> NDArray[Any]:
        """From those of each part ``(len(names), C)`` the probabilities of each name."""
        lengths = np.array([len(name) for name in self.names], dtype=np.float64)[:, None]
        logs = np.log(np.maximum(probabilities, np.finfo(probabilities.dtype).tiny), dtype=float)
        means = np.add.reduceat(lengths * logs, self.starts) / np.add.reduceat(lengths, self.starts)
        shares = np.exp(means - means.max(axis=1, keepdims=True))
        found: NDArray[Any] = shares / shares.sum(axis=1, keepdims=True)
        return found.astype(probabilities.dtype)


def parts_of(name: str, split_at: SplitAt) -> list[str]:
    """The parts of a name; the name itself where there are not two that have a letter."""
    way_at = {mark: way for kind, way in split_at.items() for mark in SEPARATORS[kind]}
    if way_at.keys().isdisjoint(name):
        return [name]
    word, *rest = re.split(f"([{re.escape(''.join(way_at))}])", name)
    parts = [word]
    for mark, behind in zip(rest[::2], rest[1::2], strict=True):
        if way_at[mark] == BETWEEN and word.strip("'\u2019.").lower() in PARTICLES:
            parts[-1] += mark + behind
        else:
            parts.append(behind)
        word = behind or word
    parts = [part.strip() for part in parts if any(map(str.isalpha, part))]
    return parts if len(parts) > 1 else [name]


def in_parts(names: list[str], split_at: SplitAt) -> Parts | None:
    """The names that have several parts; None where there is none.

    One look at all names together finds those that hold something to split at.
    """
    if not split_at:
        return None
    marks, text = "".join(SEPARATORS[kind] for kind in split_at), "".join(names)
    found = [place for mark in marks for place in _places(text, mark)]
    if not found:
        return None
    ends = np.cumsum(np.fromiter(map(len, names), dtype=np.int64, count=len(names)))
    parts = Parts([], [], [])
    for place in np.unique(np.searchsorted(ends, found, side="right")).tolist():
        if len(of_name := parts_of(names[place], split_at)) > 1:
            parts.places.append(place)
            parts.starts.append(len(parts.names))
            parts.names.extend(of_name)
    return parts if parts.places else None


def _places(text: str, mark: str) -> Iterator[int]:
    """Where ``mark`` stands in ``text``."""
    place = text.find(mark)
    while place >= 0:
        yield place
        place = text.find(mark, place + 1)


def choose_split_at(
    names: Sequence[str],
    labels: Sequence[Any],
    predict: Callable[[list[str], SplitAt], Sequence[Any]],
) -> dict[str, str]:
    """The kinds of :data:`SEPARATORS` that it helps to split names at, one after another.

    A kind is taken where more is right with it than without it, of ``names`` and of pairs made of
    two names of one label, and where of ``names`` alone not over 0.005 less is right than of the
    same names read whole. Of the :data:`WAYS` of which that is true it is the one with the most of
    ``names`` right, of equals the first. ``predict(names, split_at)`` gives the label of each name.
    """
    chosen: dict[str, str] = {}
    if not names:
        return chosen
    least = _right(predict(list(names), {}), labels) - MOST_LOST * len(names)
    for kind, marks in SEPARATORS.items():
        pairs = _pairs(names, labels, marks[0]) if kind in JOINING else []
        tried = [*names, *(pair for pair, _ in pairs)]
        truth = [*labels, *(label for _, label in pairs)]
        before = _right(predict(tried, chosen), truth)
        of_names: dict[str, int] = {}
        for way in WAYS:
            said = predict(tried, chosen | {kind: way})
            right = _right(said, labels)
            if right >= least and _right(said, truth) > before:
                of_names[way] = right
        if of_names:
            chosen[kind] = max(of_names, key=of_names.__getitem__)
    return chosen


def _right(said: Sequence[Any], labels: Sequence[Any]) -> int:
    """How many of the first ``len(labels)`` are right."""
    return sum(one == label for one, label in zip(said, labels, strict=False))


def _pairs(names: Sequence[str], labels: Sequence[Any], mark: str) -> list[tuple[str, Any]]:
    """Each name joined by ``mark`` with the one half way further on among those of its label."""
    of_label: dict[Any, list[str]] = {}
    for name, label in zip(names, labels, strict=True):
        of_label.setdefault(label, []).append(name)
    return [
        (f"{name}{mark}{others[(place + len(others) // 2) % len(others)]}", label)
        for label, others in of_label.items() if len(others) > 1
        for place, name in enumerate(others)
    ]  # fmt: skip


def checked_split_at(value: Any) -> dict[str, str]:
    """What a file says of this; raises :class:`InputError` for an unknown kind or way."""
    if not isinstance(value, Mapping):
        raise InputError(f"split_at is {short(value)}; it has to be an object of kinds and ways")
    for kind, way in value.items():
        require_known("split_at", kind, SEPARATORS)
        require_known(f"split_at of {kind}", way, WAYS)
    return dict(value)
