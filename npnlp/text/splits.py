"""Dividing a table into train, val and test: 70, 15 and 15 per cent.

The split of a row depends on its content and on the seed, not on its place: sorting the file
changes nothing. Where nationalities are too small for val and test to get any rows so, both get
15 per cent of all rows, at least one, and train keeps one row of each nationality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError
from npnlp.text.rows import SPLITS, Coded, Rows, joined
from npnlp.text.texts import Integers, Texts

FRACTIONS = {"train": 0.70, "val": 0.15, "test": 0.15}
TRAIN, VAL, TEST = range(3)
SPLIT_BY = ("column", "nationality", "name")
#: 128 bits of a hash, which sort as their hexadecimal digits do.
Hashes = NDArray[np.void]


def with_split(rows: Rows, by: str | None = None, seed: int = 0, source: str = "the table") -> Rows:
    """The rows with their ``splits``.

    ``by``: ``"column"`` keeps the table's own; ``"nationality"`` divides the rows of each
    nationality; ``"name"`` divides the names, so that no name (ignoring case) is in two splits, in
    nearly the same proportions for each nationality. None means the column where there is one, else
    ``"nationality"``.

    Raises :class:`InputError` where a split ends up empty, or a nationality is absent from train,
    naming the column where the table has one, else the rows that it lacks.
    """
    if by is None:
        by = "column" if rows.splits is not None else "nationality"
    if by == "column":
        if rows.splits is None:
            raise InputError(
                f"{source}: no column 'split'; leave out --split-by, or name another way of "
                f"splitting ({', '.join(SPLIT_BY[1:])})"
            )
    elif by == "nationality":
        rows = replace(rows, splits=Coded(_by_nationality(rows, seed), SPLITS))
    elif by == "name":
        rows = replace(rows, splits=Coded(_by_name(rows, seed), SPLITS))
    else:
        raise InputError(f"split-by {by!r} is not known; choose one of {', '.join(SPLIT_BY)}")
    if by != "column":
        _check_divided(rows, source)
    _check(rows, source)
    return rows


def _by_nationality(rows: Rows, seed: int) -> NDArray[np.uint8]:
    """Of each nationality's rows, ordered by hash, 15 per cent val, then 15 per cent test."""
    often = _occurrence(rows.pairs)
    numbers = Coded(often, [*map(str, range(int(often.max()) + 1))])
    hashes = _hashes(seed, rows.labels, rows.names, numbers)
    order = _order(hashes, rows.labels.codes)
    splits = np.full(len(rows), TRAIN, dtype=np.uint8)
    groups = np.split(order, np.cumsum(rows.labels.counts)[:-1])
    for group in groups:
        held = round(FRACTIONS["val"] * len(group))
        splits[group[:held]], splits[group[held : 2 * held]] = VAL, TEST
    if VAL not in splits:
        for split, places in _held_of_few(groups, hashes).items():
            splits[places] = split
    return splits


def _occurrence(values: Integers) -> Integers:
    """1 for the first row with a value, 2 for the second one, and so on."""
    order = np.argsort(values, kind="stable")
    begins = np.flatnonzero(np.diff(values[order], prepend=-1))
    found = np.empty(len(values), dtype=np.int64)
    found[order] = np.arange(1, len(values) + 1) - np.repeat(
        begins, np.diff(begins, append=len(values))
    )
    return found


def _by_name(rows: Rows, seed: int) -> NDArray[np.uint8]:
    """Each name, with all its rows, goes to the split that lacks most rows of its nationality."""
    folded = Texts.of(map(str.casefold, rows.names))
    names = folded.ids.astype(np.int64)
    first = np.unique(names, return_index=True)[1]
    hashes, totals = _hashes(seed, folded.take(first)), np.bincount(names)
    main, chosen = _main_label(rows.labels, names), np.full(len(first), TRAIN, dtype=np.uint8)
    order = _order(hashes, main)
    groups = np.split(order, np.flatnonzero(np.diff(main[order])) + 1)
    for group in groups:
        lacking = [part * int(totals[group].sum()) for part in FRACTIONS.values()]
        for name, total in zip(group.tolist(), totals[group].tolist(), strict=True):
            split = lacking.index(max(lacking))
            chosen[name] = split
            lacking[split] -= total
    if not {VAL, TEST} <= {*chosen.tolist()}:
        chosen[:] = TRAIN
        for split, places in _held_of_few(groups, hashes).items():
            chosen[places] = split
    return chosen[names]


def _main_label(labels: Coded, names: Integers) -> Integers:
    """The most frequent label of each name, of several the first in their order."""
    rank = np.argsort(np.argsort(np.array(labels.values, dtype=object)))
    count = len(labels.values)
    pairs, often = np.unique(names * count + rank[labels.codes], return_counts=True)
    order = np.lexsort((pairs % count, -often, pairs // count))
    owners = pairs[order] // count
    main: Integers = (pairs[order] % count)[np.flatnonzero(np.diff(owners, prepend=-1))]
    return main


def _held_of_few(groups: Sequence[Integers], hashes: Hashes) -> dict[int, list[int]]:
    """Which rows, or names, are val and which are test, where each group is too small by itself.

    ``groups`` are those of a nationality each, in order of their hashes. Each has one held out
    before another has two, and keeps one.
    """
    listed = sorted((group.tolist() for group in groups if len(group)),
                    key=lambda group: hashes[group[0]].tobytes())  # fmt: skip
    rounds = (group[turn] for turn in range(max(map(len, listed)) - 1)
              for group in listed if turn < len(group) - 1)  # fmt: skip
    wanted = max(1, round(FRACTIONS["val"] * sum(map(len, listed))))
    held = list(islice(rounds, 2 * wanted))
    return {VAL: held[::2], TEST: held[1::2]}


def _hashes(seed: int, *columns: Coded | Texts) -> Hashes:
    """That of each row of some columns."""
    from hashlib import blake2b  # predicting hashes nothing

    seeds, made = Coded(np.zeros(len(columns[0]), dtype=np.uint8), [str(seed)]), []
    for rows in joined("\0", seeds, *columns):
        some = [blake2b(row.encode(), digest_size=16).digest() for row in rows]
        made.append(np.frombuffer(b"".join(some), dtype="V16"))
    return np.concatenate(made)


def _order(hashes: Hashes, groups: NDArray[np.integer]) -> Integers:
    """The rows by their group, and by their hash within it."""
    words = hashes.view(">u8").reshape(-1, 2).astype(np.uint64)
    order = np.lexsort((words[:, 1], words[:, 0]))
    return order[np.argsort(groups[order], kind="stable")]


def _check_divided(rows: Rows, source: str) -> None:
    if not all(len(rows.places(split)) for split in FRACTIONS):
        raise InputError(
            f"{source}: {len(rows)} rows of {len(rows.labels.values)} nationalities are "
            "too few to divide into train, val and test; add rows, so that two nationalities have "
            "two names or one has three, or a column split"
        )


def _check(rows: Rows, source: str) -> None:
    for split in FRACTIONS:
        if not len(rows.places(split)):
            raise InputError(f"{source}: column split: no rows with {split!r}; add some")
    codes, values = rows.labels.codes, rows.labels.values
    learned = np.bincount(codes[rows.places("train")], minlength=len(values)) > 0
    absent = np.flatnonzero(~learned[codes])
    if len(absent):
        first = int(absent[0])
        where = "" if rows.lines is None else f"{rows.where(first)}: "
        raise InputError(
            f"{source}: {where}{values[codes[first]]!r} never occurs in train, so it cannot be "
            "learned; add rows of it to train, or drop it"
        )
    if np.count_nonzero(learned) < 2:
        raise InputError(
            f"{source}: column {rows.label}: only one, {values[int(learned.argmax())]!r}; a "
            "classifier needs at least two"
        )
