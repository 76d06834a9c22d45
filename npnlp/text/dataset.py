"""The dataset: a table of names seen through a vectorizer, by split."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError
from npnlp.files import write_atomic
from npnlp.summary import summarized
from npnlp.text.columns import ANY, Columns
from npnlp.text.provenance import TableNote, name_codes, sha256_of
from npnlp.text.rows import SPLITS, Rows
from npnlp.text.splits import with_split
from npnlp.text.table import read_rows
from npnlp.text.vectorizer import SurnameVectorizer, read_vectorizer

if TYPE_CHECKING:
    import pandas as pd

CLASS_WEIGHTS = ("inverse", "balanced", "none")


@summarized
@dataclass(frozen=True)
class SplitArrays:
    """A split as integers, ready for batches.

    ``tokens`` holds all names one after another; name i is ``tokens[starts[i]:][:lengths[i]]``;
    ``targets`` are the classes. Where rows of the same name have been merged
    (:func:`npnlp.text.repeats.merged`), ``shares (n, C)`` is the fraction of its rows in each
    class. ``weights (n,)``, with a mean of one, are those of rows in the loss, if they have any.
    """

    tokens: NDArray[np.integer]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    targets: NDArray[np.int64]
    shares: NDArray[np.float64] | None = None
    weights: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.targets)


class SurnameDataset:
    """A frame with ``surname``, ``nationality`` and ``split``, seen through a vectorizer.

    ``len(dataset)`` and ``dataset[i]`` are those of one split, chosen with :meth:`set_split` (at
    first train). Raises :class:`InputError` for a missing column or value, and for a frame without
    rows.
    """

    def __init__(self, surname_df: pd.DataFrame | Rows, vectorizer: SurnameVectorizer) -> None:
        if isinstance(surname_df, Rows):
            self.rows = surname_df
        else:
            self.rows, self.surname_df = Rows.of(surname_df), surname_df
        if self.rows.splits is None:
            raise InputError("column 'split' is missing; every row needs one")
        if not len(self.rows):
            raise InputError("the frame has no rows")
        self._vectorizer = vectorizer
        self._arrays: dict[str, SplitArrays] = {}
        #: What is known of the file that it was read from.
        self.table: TableNote | None = None
        self.set_split("train")

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(self.rows.places(split)):,} {split}" for split in SPLITS)
        return f"<{type(self).__name__} of {len(self.rows):,} rows: {sizes}>"

    @cached_property
    def surname_df(self) -> pd.DataFrame:
        """All rows as a frame."""
        return self.rows.frame()

    @cached_property
    def frames(self) -> dict[str, pd.DataFrame]:
        """The rows of each split as a frame."""
        return {split: self.surname_df.iloc[self.rows.places(split)] for split in SPLITS}

    @cached_property
    def sha256(self) -> str:
        """That of the rows in their order."""
        return sha256_of(self.rows)

    @cached_property
    def train_codes(self) -> NDArray[np.uint64]:
        """:func:`npnlp.text.provenance.name_codes` of the names in train."""
        return name_codes(self.rows.different(self.rows.places("train")))

    @cached_property
    def _max_length(self) -> int:
        return 2 + max(int(block.lengths.max()) for block in self.rows.names.blocks())

    @classmethod
    def load_dataset_and_make_vectorizer(
        cls, surname_csv: str | Path, split_by: str | None = None, columns: Columns = ANY
    ) -> Self:
        """Read a CSV, and make the vocabularies of its train split."""
        read = read_rows(surname_csv, columns)
        rows = with_split(read, split_by, source=str(surname_csv))
        dataset = cls(rows, SurnameVectorizer.of(rows.take(rows.places("train"))))
        dataset.table = TableNote.of(read, split_by)
        return dataset

    @classmethod
    def load_dataset_and_load_vectorizer(
        cls,
        surname_csv: str | Path,
        vectorizer_filepath: str | Path,
        split_by: str | None = None,
        columns: Columns = ANY,
    ) -> Self:
        """Read a CSV, with saved vocabularies.

        Raises :class:`InputError` where the CSV holds a nationality that they do not.
        """
        vectorizer = cls.load_vectorizer_only(vectorizer_filepath)
        read = read_rows(surname_csv, columns)
        rows = with_split(read, split_by, source=str(surname_csv))
        require_known_nationalities(rows, vectorizer, str(surname_csv))
        dataset = cls(rows, vectorizer)
        dataset.table = TableNote.of(read, split_by)
        return dataset

    @staticmethod
    def load_vectorizer_only(vectorizer_filepath: str | Path) -> SurnameVectorizer:
        """The vectorizer of a JSON file."""
        return read_vectorizer(vectorizer_filepath)

    def save_vectorizer(self, vectorizer_filepath: str | Path) -> None:
        """Write the vectorizer as JSON."""
        text = json.dumps(self._vectorizer.to_serializable(), ensure_ascii=False)
        write_atomic(vectorizer_filepath, text + "\n")

    def get_vectorizer(self) -> SurnameVectorizer:
        """The vectorizer in use."""
        return self._vectorizer

    def set_letter_case(self, letter_case: str) -> None:
        """Read names in this letter case from now on; see :mod:`npnlp.text.letter_case`."""
        if letter_case != self._vectorizer.letter_case:
            self._vectorizer.letter_case = letter_case
            self._arrays.clear()

    def set_split(self, split: str = "train") -> None:
        """Choose the split of ``len`` and indexing."""
        if split not in SPLITS:
            raise InputError(f"split {split!r} is none of {', '.join(SPLITS)}")
        self._split = split

    def __len__(self) -> int:
        return len(self.rows.places(self._split))

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The padded tokens, the class and the length of one name of the chosen split."""
        row = self.rows.take(self.rows.places(self._split)[[index]])
        (name,) = row.names
        vector, length = self._vectorizer.vectorize(name, self._max_length)
        target = self._vectorizer.nationality_vocab.lookup_token(*row.labels)
        return {"x_data": vector, "y_target": target, "x_length": length}

    def get_num_batches(self, batch_size: int) -> int:
        """The number of full batches in the chosen split."""
        return len(self) // batch_size

    def arrays(self, split: str) -> SplitArrays:
        """A split as integers, computed once."""
        if split not in self._arrays:
            self._arrays[split] = self.encoded(self.rows.places(split))
        return self._arrays[split]

    def encoded(self, places: NDArray[np.int64]) -> SplitArrays:
        """Some rows as integers."""
        rows = self.rows.take(places)
        tokens, lengths = self._vectorizer.encode(rows.names)
        used = np.flatnonzero(rows.labels.counts)
        targets = np.zeros(len(rows.labels.values), dtype=np.int64)
        lookup = self._vectorizer.nationality_vocab.lookup_token
        targets[used] = [lookup(rows.labels.values[code]) for code in used.tolist()]
        starts = np.cumsum(lengths) - lengths
        return SplitArrays(tokens, starts, lengths, targets[rows.labels.codes])

    def class_weights(self, kind: str = "inverse") -> NDArray[np.float64] | None:
        """A weight per class, from its number of rows ``n_c`` in train; None for ``"none"``.

        ``inverse``: ``1 / n_c``; ``balanced``: ``n / (C n_c)``, whose mean over the rows of train
        is 1. They are the same to a loss that is a weighted mean.
        """
        if kind not in CLASS_WEIGHTS:
            raise InputError(f"class weights {kind!r} are none of {', '.join(CLASS_WEIGHTS)}")
        if kind == "none":
            return None
        classes = len(self._vectorizer.nationality_vocab)
        counts = np.bincount(self.arrays("train").targets, minlength=classes)
        inverse = 1.0 / np.maximum(counts, 1)  # a class of a loaded vocabulary may be absent here
        return inverse if kind == "inverse" else inverse * counts.sum() / classes


def require_known_nationalities(rows: Rows, vectorizer: SurnameVectorizer, source: str) -> None:
    """Raise :class:`InputError` naming the first row whose nationality the vectorizer lacks."""
    codes, labels = rows.labels.codes, rows.labels.values
    unknown = np.array([label not in vectorizer.nationality_vocab for label in labels])
    for row in np.flatnonzero(unknown[codes])[:1].tolist():
        raise InputError(
            f"{source}: {rows.where(row)}: {labels[codes[row]]!r} is unknown to the model"
        )
