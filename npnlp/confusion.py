"""What a picture shows of a confusion matrix: all of it, or its largest classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def read_confusion(
    matrix: pd.DataFrame | str | Path,
) -> tuple[str, list[str], NDArray[np.int64]]:
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


def largest_classes(
    table: NDArray[np.int64], most: int
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
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
