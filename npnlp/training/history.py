"""Where a run stands, and its history: a row an epoch.

A long run stays small: a number takes 8 bytes here, a tenth of what it takes in a dict.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.files import write_parts

#: Columns of whole numbers.
WHOLE = ("epoch",)
#: Columns that a clock fills.
CLOCK = ("seconds", "names_per_second")

Row = dict[str, float]


class History:
    """Rows with the same columns, in order; each comes out as a dict."""

    def __init__(self, rows: Iterable[Mapping[str, float]] = ()) -> None:
        self.columns: tuple[str, ...] = ()
        self._numbers = array("d")
        for row in rows:
            self.append(row)

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row; raises ``ValueError`` for one with other columns than the first."""
        self.columns = self.columns or tuple(row)
        if tuple(row) != self.columns:
            raise ValueError(f"a row of {tuple(row)} in a history of {self.columns}")
        self._numbers.extend(row.values())

    def __len__(self) -> int:
        return len(self._numbers) // len(self.columns) if self.columns else 0

    def __getitem__(self, place: int) -> Row:
        if not -len(self) <= place < len(self):
            raise IndexError(f"row {place} of {len(self)}")
        size = len(self.columns)
        start = place % len(self) * size
        numbers = zip(self.columns, self._numbers[start : start + size], strict=True)
        return {name: int(v) if name in WHOLE else v for name, v in numbers}

    def __iter__(self) -> Iterator[Row]:
        return (self[place] for place in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History | list) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def table(self) -> NDArray[np.float64]:
        """All numbers ``(rows, columns)``."""
        return np.array(self._numbers).reshape(len(self), len(self.columns))

    def csv_parts(self) -> Iterator[bytes]:
        """The rows as CSV with every digit of a float, one at a time to save memory."""
        yield ",".join(self.columns).encode() + b"\n"
        for row in self:
            yield ",".join(map(repr, row.values())).encode() + b"\n"

    def write_csv(self, path: Path) -> None:
        """Replace ``path`` by the rows as CSV, in one step."""
        write_parts(path, self.csv_parts())

    def to_tensor(self) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """The table without the clock's columns, and those and the names as plain values.

        So the tensors of two equal runs are equal.
        """
        table = self.table()
        stored = [place for place, name in enumerate(self.columns) if name not in CLOCK]
        clock = {
            name: table[:, place].tolist()
            for place, name in enumerate(self.columns)
            if name in CLOCK
        }
        return table.take(stored, axis=1), {"columns": list(self.columns), **clock}

    @classmethod
    def from_tensor(cls, tensor: NDArray[Any], values: Mapping[str, Any]) -> History:
        """Undo :meth:`to_tensor`; raises ``ValueError`` where the parts do not fit."""
        columns = values["columns"]
        if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
            raise ValueError(f"its columns are {columns!r:.40}")
        stored = [name for name in columns if name not in CLOCK]
        if len(set(columns)) < len(columns) or tensor.shape[1:] != (len(stored),):
            raise ValueError(f"a table of shape {tensor.shape} for columns {columns!r:.40}")
        if tensor.dtype != np.float64:
            raise ValueError(f"a table of {tensor.dtype}, not of float64")
        for name in set(columns) & set(CLOCK):
            numbers = values[name]
            if not isinstance(numbers, list) or len(numbers) != len(tensor):
                raise ValueError(f"{name} is not a list of {len(tensor)} numbers")
            if not all(type(number) in (int, float) for number in numbers):
                raise ValueError(f"{name} holds what is no number")
        parts = dict(zip(stored, tensor.T, strict=True))
        parts |= {name: values[name] for name in columns if name in CLOCK}
        table = np.array([parts[name] for name in columns], dtype=np.float64).T
        made = cls()
        made.columns = tuple(columns)
        made._numbers = array("d", table.tobytes())
        return made


@dataclass
class Progress:
    """Where a run stands; plain values, so that a checkpoint can hold them.

    ``computed_on`` says from which epoch and batch on which backend and library computed.
    """

    epoch: int = 0
    batch: int = 0
    stopped_early: bool = False
    best_epoch: int = -1
    history: History = field(default_factory=History)
    computed_on: list[dict[str, Any]] = field(default_factory=list)
