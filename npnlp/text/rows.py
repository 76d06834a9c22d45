"""The rows of a table, column by column: names as one row of bytes, labels and splits as codes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError
from npnlp.summary import summarized
from npnlp.text.texts import BLOCK, Integers, Texts

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "val", "test")


@summarized
@dataclass(frozen=True, eq=False)
class Coded:
    """n texts of which many are the same: text i is ``values[codes[i]]``."""

    codes: NDArray[np.integer]
    values: Sequence[str]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Those of a list, or of what else is walked over once; ``values`` as they appear."""
        codes, walk, made = dict[str, int](), iter(texts), []
        while some := list(islice(walk, BLOCK)):
            made.append(codes_of(some, codes))
        return cls.one_after_another(made, codes)

    @classmethod
    def one_after_another(cls, parts: Sequence[Integers], codes: dict[str, int]) -> Self:
        """Those of all ``parts``, in the smallest dtype."""
        kind = np.min_scalar_type(len(codes))
        joined = [part.astype(kind) for part in parts]
        return cls(np.concatenate(joined or [np.empty(0, kind)]), list(codes))

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self.lists())

    def lists(self) -> Iterator[list[str]]:
        """As lists of :data:`BLOCK` texts."""
        for first in range(0, len(self), BLOCK):
            yield [*map(self.values.__getitem__, self.codes[first : first + BLOCK].tolist())]

    def take(self, rows: NDArray[np.integer]) -> Self:
        """Those of ``rows``, in their order."""
        return replace(self, codes=self.codes[rows])

    @cached_property
    def counts(self) -> Integers:
        """How often each of the values occurs."""
        counts: Integers = np.bincount(self.codes, minlength=len(self.values))
        return counts

    def places(self, value: str) -> Integers:
        """Where ``value`` stands."""
        code = self.values.index(value) if value in self.values else len(self.values)
        return np.flatnonzero(self.codes == code)


def codes_of(texts: Sequence[str], codes: dict[str, int]) -> Integers:
    """The code of each text; a new text has the next one, which ``codes`` is given."""
    for text in dict.fromkeys(texts):
        codes.setdefault(text, len(codes))
    return np.fromiter(map(codes.__getitem__, texts), dtype=np.int64, count=len(texts))


def joined(between: str, *columns: Coded | Texts) -> Iterator[list[str]]:
    """The texts of each row, joined; as lists of :data:`BLOCK` rows."""
    for lists in zip(*(column.lists() for column in columns), strict=True):
        yield [*map(between.join, zip(*lists, strict=True))]


@summarized
@dataclass(frozen=True, eq=False)
class Rows:
    """The ``names``, ``labels`` and, where they are known, ``splits`` of n rows.

    ``lines`` are those of the file that the records end on, if they are from one, and ``label`` is
    what the file calls the column of labels.
    """

    names: Texts
    labels: Coded
    splits: Coded | None = None
    lines: NDArray[np.integer] | None = None
    label: str = "nationality"

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Self:
        """Those of a frame with ``surname``, ``nationality`` and perhaps ``split`` and ``row``.

        Raises :class:`InputError` for a missing column or value.
        """
        return cls(
            Texts.of(_texts(frame, "surname")),
            Coded.of(_texts(frame, "nationality")),
            Coded.of(_texts(frame, "split")) if "split" in frame else None,
            frame["row"].to_numpy(dtype=np.int64) if "row" in frame else None,
            str(frame.attrs.get("label", "nationality")),
        )

    def frame(self) -> pd.DataFrame:
        """The rows as a frame with ``nationality``, ``surname`` and perhaps ``split`` and ``row``.

        ``attrs["label"]`` is what the file calls the column of labels.
        """
        import pandas as pd

        values = {"nationality": list(self.labels), "surname": list(self.names)}
        if self.splits is not None:
            values["split"] = list(self.splits)
        # As objects: where pyarrow is installed, pandas would put them into its arrays, which are
        # slow to walk through.
        frame = pd.DataFrame(values, dtype=object)
        if self.lines is not None:
            frame = frame.assign(row=self.lines.astype(np.int64))
        frame.attrs["label"] = self.label
        return frame

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Integers) -> Self:
        """Some of the rows, in this order."""
        splits = None if self.splits is None else self.splits.take(rows)
        lines = None if self.lines is None else self.lines[rows]
        return replace(self, names=self.names.take(rows), labels=self.labels.take(rows),
                       splits=splits, lines=lines)  # fmt: skip

    def places(self, split: str) -> Integers:
        """Which rows are of ``split``."""
        return np.arange(0) if self.splits is None else self.splits.places(split)

    def where(self, row: int) -> str:
        """The line of a row and the column of labels, for a message."""
        line = "" if self.lines is None else f"row {self.lines[row]}, "
        return f"{line}column {self.label}"

    @property
    def name_ids(self) -> NDArray[np.int32]:
        """A number for each name, the same for the same name, in the names' order."""
        return self.names.ids

    def different(self, rows: Integers) -> Texts:
        """The different names of some rows."""
        row_of = np.full(int(self.name_ids.max(initial=0)) + 1, -1)
        row_of[self.name_ids[rows]] = rows
        return self.names.take(row_of[row_of >= 0])

    @property
    def pairs(self) -> Integers:
        """A number for each pair of label and name, the same for the same pair."""
        pairs = self.labels.codes.astype(np.int64)
        pairs *= int(self.name_ids.max(initial=0)) + 1
        pairs += self.name_ids
        return pairs


def _texts(frame: pd.DataFrame, name: str) -> list[str]:
    """A column; raises :class:`InputError` naming it where it is missing, or a row without text."""
    if name not in frame:
        raise InputError(f"column {name!r} is missing; the frame has {list(frame)}")
    # As a list: of columns in Arrow, walking over the column itself is slow.
    values: list[str] = frame[name].tolist()
    try:
        if all(map(str.strip, values)):
            return values
    except TypeError:  # not all are texts
        pass
    for row, value in zip(frame.index, values, strict=True):
        if not isinstance(value, str) or not value.strip():
            raise InputError(
                f"column {name}, row {row!r}: {value!r} is no text; fill it or drop the row"
            )
    return values
