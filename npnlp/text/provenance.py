"""Which table a model was trained on, how that was divided, and which names it has seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError, short
from npnlp.text.splits import SPLIT_BY, with_split

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TableNote:
    """A table by the SHA-256 of its rows, in any order, and the way that it was divided."""

    sha256: str
    split_by: str

    @classmethod
    def of(cls, frame: pd.DataFrame, split_by: str | None) -> Self:
        """That of a frame as :func:`npnlp.text.read_table` gives it."""
        return cls(_sha256(frame), split_by or ("column" if "split" in frame else "nationality"))

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

    def is_of(self, frame: pd.DataFrame) -> bool:
        """Whether these are the rows of that table."""
        return _sha256(frame) == self.sha256

    def divided(self, frame: pd.DataFrame, source: str) -> pd.DataFrame:
        """The rows of that table, divided as they were."""
        return with_split(frame, self.split_by, source=source)


def _sha256(frame: pd.DataFrame) -> str:
    from hashlib import sha256  # predicting hashes nothing

    columns = [frame[name] for name in ("nationality", "surname", "split") if name in frame]
    rows = sorted(map("\t".join, zip(*columns, strict=True)))
    return sha256("\n".join(rows).encode()).hexdigest()


def name_codes(names: Iterable[str]) -> NDArray[np.uint64]:
    """64 bits of a hash for each different name, in order: to know names again, not to tell them.

    Two of a million names have one code with a probability of 3e-8.
    """
    from hashlib import blake2b

    hashes = (blake2b(name.encode(), digest_size=8).digest() for name in set(names))
    return np.sort(np.frombuffer(b"".join(hashes), dtype="<u8"))
