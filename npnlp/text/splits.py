"""Dividing a table into train, val and test: 70, 15 and 15 per cent.

The split of a row depends on its content and on the seed, not on its place: sorting the file
changes nothing. Where nationalities are too small for val and test to get any rows so, both get
15 per cent of all rows, at least one, and train keeps one row of each nationality.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from npnlp.errors import InputError
from npnlp.text.labels import column_of_labels

if TYPE_CHECKING:
    import pandas as pd

Unit = TypeVar("Unit", int, str)

FRACTIONS = {"train": 0.70, "val": 0.15, "test": 0.15}
SPLIT_BY = ("column", "nationality", "name")


def with_split(
    frame: pd.DataFrame, by: str | None = None, seed: int = 0, source: str = "the table"
) -> pd.DataFrame:
    """The frame with a ``split`` column.

    ``by``: ``"column"`` keeps the table's own; ``"nationality"`` divides the rows of each
    nationality; ``"name"`` divides the names, so that no name (ignoring case) is in two splits, in
    nearly the same proportions for each nationality. None means the column where there is one, else
    ``"nationality"``.

    Raises :class:`InputError` where a split ends up empty, or a nationality is absent from train,
    naming the column where the table has one, else the rows that it lacks.
    """
    if by is None:
        by = "column" if "split" in frame else "nationality"
    if by == "column":
        if "split" not in frame:
            raise InputError(
                f"{source}: no column 'split'; leave out --split-by, or name another way of "
                f"splitting ({', '.join(SPLIT_BY[1:])})"
            )
        result = frame
    elif by == "nationality":
        result = frame.assign(split=_by_nationality(frame, seed))
    elif by == "name":
        result = frame.assign(split=_by_name(frame, seed))
    else:
        raise InputError(f"split-by {by!r} is not known; choose one of {', '.join(SPLIT_BY)}")
    if by != "column":
        _check_divided(result, source)
    _check(result, source)
    return result


def _by_nationality(frame: pd.DataFrame, seed: int) -> list[str]:
    """Of each nationality's rows, ordered by hash, 15 per cent val, then 15 per cent test."""
    rows: dict[str, list[tuple[str, int]]] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for place, key in enumerate(zip(frame["nationality"], frame["surname"], strict=True)):
        seen[key] += 1
        rows.setdefault(key[0], []).append((_hash(seed, *key, str(seen[key])), place))
    splits = ["train"] * len(frame)
    for ranked in rows.values():
        held = round(FRACTIONS["val"] * len(ranked))
        for rank, (_, place) in enumerate(sorted(ranked)[: 2 * held]):
            splits[place] = "val" if rank < held else "test"
    if "val" not in splits:
        groups = [[place for _, place in sorted(ranked)] for ranked in rows.values()]
        keys = {place: key for ranked in rows.values() for key, place in ranked}
        for place, split in _held_of_few(groups, keys).items():
            splits[place] = split
    return splits


def _by_name(frame: pd.DataFrame, seed: int) -> list[str]:
    """Each name, with all its rows, goes to the split that lacks most rows of its nationality."""
    names = [surname.casefold() for surname in frame["surname"]]
    labels: dict[str, Counter[str]] = {}
    for name, nationality in zip(names, frame["nationality"], strict=True):
        labels.setdefault(name, Counter())[nationality] += 1
    groups: dict[str, list[str]] = {}
    for name, counts in labels.items():
        main = min(counts, key=lambda nationality: (-counts[nationality], nationality))
        groups.setdefault(main, []).append(name)
    chosen: dict[str, str] = {}
    for group in groups.values():
        total = sum(labels[name].total() for name in group)
        lacking = {split: part * total for split, part in FRACTIONS.items()}
        for name in sorted(group, key=lambda name: _hash(seed, name)):
            split = max(lacking, key=lambda split: lacking[split])
            chosen[name] = split
            lacking[split] -= labels[name].total()
    if not {"val", "test"} <= set(chosen.values()):
        keys = {name: _hash(seed, name) for name in labels}
        ordered = [sorted(group, key=keys.__getitem__) for group in groups.values()]
        chosen = dict.fromkeys(labels, "train") | _held_of_few(ordered, keys)
    return [chosen[name] for name in names]


def _held_of_few(groups: Sequence[Sequence[Unit]], keys: Mapping[Unit, str]) -> dict[Unit, str]:
    """Which rows, or names, are val and which are test, where each group is too small by itself.

    ``groups`` are those of a nationality each, in order of their ``keys``. Each has one held out
    before another has two, and keeps one.
    """
    rounds = (group[turn] for turn in range(max(map(len, groups)) - 1)
              for group in sorted(groups, key=lambda group: keys[group[0]])
              if turn < len(group) - 1)  # fmt: skip
    wanted = max(1, round(FRACTIONS["val"] * sum(map(len, groups))))
    held = list(islice(rounds, 2 * wanted))
    return {unit: ("val", "test")[place % 2] for place, unit in enumerate(held)}


def _hash(seed: int, *parts: str) -> str:
    from hashlib import blake2b  # predicting hashes nothing

    return blake2b("\0".join((str(seed), *parts)).encode(), digest_size=16).hexdigest()


def _check_divided(frame: pd.DataFrame, source: str) -> None:
    if not set(FRACTIONS) <= set(frame["split"]):
        raise InputError(
            f"{source}: {len(frame)} rows of {frame['nationality'].nunique()} nationalities are "
            "too few to divide into train, val and test; add rows, so that two nationalities have "
            "two names or one has three, or a column split"
        )


def _check(frame: pd.DataFrame, source: str) -> None:
    for split in FRACTIONS:
        if not (frame["split"] == split).any():
            raise InputError(f"{source}: column split: no rows with {split!r}; add some")
    column = column_of_labels(frame)
    train = set(frame.loc[frame["split"] == "train", "nationality"])
    absent = frame[~frame["nationality"].isin(train)]
    if len(absent):
        first = absent.iloc[0]
        where = f"row {first['row']}, column {column}: " if "row" in frame else ""
        raise InputError(
            f"{source}: {where}{first['nationality']!r} never occurs in train, so it cannot be "
            "learned; add rows of it to train, or drop it"
        )
    if len(train) < 2:
        raise InputError(
            f"{source}: column {column}: only one, {next(iter(train))!r}; a classifier needs "
            "at least two"
        )
