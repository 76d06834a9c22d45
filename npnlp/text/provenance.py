"""Which table a model was trained on, how that was divided, and which names it has seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError, short
from npnlp.text.rows import Coded, Rows, joined
from npnlp.text.splits import SPLIT_BY, with_split
from npnlp.text.texts import BLOCK, Texts


@dataclass(frozen=True)
class TableNote:
    """A table by the SHA-256 of its rows, in any order, and the way that it was divided."""

    sha256: str
    split_by: str

    @classmethod
    def of(cls, rows: Rows, split_by: str | None) -> Self:
        """That of rows as they are read."""
        by = "nationality" if rows.splits is None else "column"
        return cls(sorted_sha256(rows), split_by or by)

    @classmethod
    def from_dict(cls, values: Any) -> Self | None:
        """Of plain values; None of None, which files of earlier versions have."""
        if values is None:
            return None
        if not (
            isinstance(values, dict)
            and values.keys() == {"sha256", "split_by"}
            and isinstance(values["sha256"], str)
            and values["split_by"] in SPLIT_BY
        ):
            raise InputError(f"table {short(values)} has to have sha256 and split_by")
        return cls(**values)

    def is_of(self, rows: Rows) -> bool:
        """Whether these are the rows of that table."""
        return sorted_sha256(rows) == self.sha256

    def divided(self, rows: Rows, source: str) -> Rows:
        """The rows of that table, divided as they were."""
        return with_split(rows, self.split_by, source=source)


def sha256_of(rows: Rows) -> str:
    """That of the rows in their order."""
    return _sha256(_columns(rows))


def sorted_sha256(rows: Rows) -> str:
    """That of the rows in the order of label, name and split, whichever they are in."""
    columns = _columns(rows)
    if min(map(_lowest, columns)) <= ord("\t"):  # one of these, within a text
        lines = Texts.of(chain.from_iterable(joined("\t", *columns)))
        return _sha256([lines.take(lines.order()[0])])
    keys = [_rank(column) for column in columns if isinstance(column, Coded)]
    order = np.lexsort((*keys[1:], rows.name_ids, keys[0]))
    return _sha256([column.take(order) for column in columns])


def _columns(rows: Rows) -> list[Coded | Texts]:
    return [each for each in (rows.labels, rows.names, rows.splits) if each is not None]


def _lowest(column: Coded | Texts) -> int:
    """The lowest byte."""
    texts = Texts.of(column.values) if isinstance(column, Coded) else column
    return int(texts.content.min(initial=255))


def _rank(column: Coded) -> NDArray[np.integer]:
    """The place of each text among the different ones, sorted."""
    places = np.empty(len(column.values), dtype=np.min_scalar_type(len(column.values)))
    places[sorted(range(len(places)), key=column.values.__getitem__)] = np.arange(len(places))
    ranks: NDArray[np.integer] = places[column.codes]
    return ranks


def _sha256(columns: list[Coded | Texts]) -> str:
    """That of lines with a tab between the columns."""
    from hashlib import sha256  # predicting hashes nothing

    found, between = sha256(), ""
    for lines in joined("\t", *columns):
        found.update((between + "\n".join(lines)).encode())
        between = "\n"
    return found.hexdigest()


def name_codes(names: Iterable[str]) -> NDArray[np.uint64]:
    """64 bits of a hash for each different name, in order: to know names again, not to tell them.

    Two of a million names have one code with a probability of 3e-8.
    """
    from hashlib import blake2b

    walk, hashes = iter(names), bytearray()
    while some := [*islice(walk, BLOCK)]:
        hashes += b"".join([blake2b(name.encode(), digest_size=8).digest() for name in some])
    codes: NDArray[np.uint64] = np.sort(np.frombuffer(hashes, dtype="<u8"))
    different: NDArray[np.uint64] = codes[np.append(True, codes[1:] != codes[:-1])[: len(codes)]]
    return different
