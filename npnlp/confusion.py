"""What a picture shows of a confusion matrix: its largest classes, families together."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def read_confusion(matrix: pd.DataFrame | str | Path) -> tuple[str, list[str], Counts]:
    """What a class is called, the classes' names, and the counts ``(C, C)``.

    From ``confusion_matrix.csv`` or a DataFrame with its columns: the true classes' names, and a
    column for each predicted class in the same order. Columns are taken by position, since a class
    may have any name; numbers are read as such.
    """
    if isinstance(matrix, pd.DataFrame):
        names = matrix.iloc[:, 0].astype(str).tolist()
        return _class_of(matrix.columns[0]), names, matrix.iloc[:, 1:].to_numpy(np.int64)
    plain: Any = {"header": None, "keep_default_na": False}
    corner = pd.read_csv(matrix, nrows=1, dtype=str, **plain).iat[0, 0]
    table = pd.read_csv(matrix, skiprows=1, dtype={0: str}, **plain)
    counts = table.iloc[:, 1:].to_numpy(np.int64)
    return _class_of(corner), table[0].tolist(), counts


def _class_of(corner: object) -> str:
    """What a class is called, from the name of the first column."""
    return str(corner).removeprefix("true ")


def largest_classes(table: Counts, most: int) -> tuple[NDArray[np.intp], Counts]:
    """The classes with most rows, most first, and their part of a confusion matrix ``(C, C)``.

    Of more than ``most`` classes the last row and column of that part are all others together.
    """
    ranks = np.argsort(-table.sum(axis=1), kind="stable")
    named = ranks if len(ranks) <= most else ranks[: most - 1]
    counts = table[np.ix_(named, named)]
    if len(named) < len(ranks):
        counts = np.pad(counts, (0, 1))
        counts[:-1, -1] = table[named].sum(axis=1) - counts[:-1].sum(axis=1)
        counts[-1, :-1] = table[:, named].sum(axis=0) - counts[:, :-1].sum(axis=0)
        counts[-1, -1] = table.sum() - counts.sum()
    return named, counts


def families_together(counts: Counts) -> list[int]:
    """An order of the classes of a confusion matrix ``(C, C)`` in which those confused are near.

    With ``P`` the shares of each row, ``S_ij = (P_ij + P_ji) / 2`` says how often the one is taken
    for the other, whatever their numbers of rows. Clusters begin as single classes; the two whose
    members are the most similar on average are joined, of the four ways to put one line after the
    other the one whose neighbours at the joint are the most similar, until one line is left. Equal
    ones are taken in the order of the classes, so that the same counts give the same order; the
    line is turned so that the first class stands in its first half.

    Source: Gruvaeus and Wainer, "Two additions to hierarchical cluster analysis", 1972.
    """
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    similar = (share + share.T) / 2
    lines = [[place] for place in range(len(counts))]
    while len(lines) > 1:
        one, other = max(
            combinations(range(len(lines)), 2),
            key=lambda pair: similar[np.ix_(lines[pair[0]], lines[pair[1]])].mean(),
        )
        a, b = lines[one], lines.pop(other)
        ways = [(a, b), (a, b[::-1]), (a[::-1], b), (a[::-1], b[::-1])]
        left, right = max(ways, key=lambda way: similar[way[0][-1], way[1][0]])
        lines[one] = left + right
    line = lines[0] if lines else []
    return line[::-1] if line and line.index(0) >= len(line) / 2 else line
