"""The dataset: a table of names seen through a vectorizer, by split."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError
from npnlp.files import write_atomic
from npnlp.summary import summarized
from npnlp.text.columns import ANY, Columns
from npnlp.text.labels import column_of_labels
from npnlp.text.provenance import TableNote
from npnlp.text.splits import with_split
from npnlp.text.table import SPLITS, read_table
from npnlp.text.vectorizer import SurnameVectorizer, read_vectorizer, require_text

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

    tokens: NDArray[np.int64]
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

    def __init__(self, surname_df: pd.DataFrame, vectorizer: SurnameVectorizer) -> None:
        require_text(surname_df, ("surname", "nationality", "split"))
        if not len(surname_df):
            raise InputError("the frame has no rows")
        self.surname_df = surname_df
        self._vectorizer = vectorizer
        self._arrays: dict[str, SplitArrays] = {}
        #: What is known of the file that it was read from.
        self.table: TableNote | None = None
        self.frames = {split: surname_df[surname_df["split"] == split] for split in SPLITS}
        self._max_length = int(surname_df["surname"].str.len().max()) + 2
        self.set_split("train")

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(frame):,} {split}" for split, frame in self.frames.items())
        return f"<{type(self).__name__} of {len(self.surname_df):,} rows: {sizes}>"

    @classmethod
    def load_dataset_and_make_vectorizer(
        cls, surname_csv: str | Path, split_by: str | None = None, columns: Columns = ANY
    ) -> Self:
        """Read a CSV, and make the vocabularies of its train split."""
        read = read_table(surname_csv, columns)
        frame = with_split(read, split_by, source=str(surname_csv))
        train = frame[frame["split"] == "train"]
        dataset = cls(frame, SurnameVectorizer.from_dataframe(train))
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
        read = read_table(surname_csv, columns)
        frame = with_split(read, split_by, source=str(surname_csv))
        require_known_nationalities(frame, vectorizer, str(surname_csv))
        dataset = cls(frame, vectorizer)
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
        self._vectorizer.letter_case = letter_case
        self._arrays.clear()

    def set_split(self, split: str = "train") -> None:
        """Choose the split of ``len`` and indexing."""
        if split not in SPLITS:
            raise InputError(f"split {split!r} is none of {', '.join(SPLITS)}")
        self._split = split

    def __len__(self) -> int:
        return len(self.frames[self._split])

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The padded tokens, the class and the length of one name of the chosen split."""
        row = self.frames[self._split].iloc[index]
        vector, length = self._vectorizer.vectorize(row["surname"], self._max_length)
        target = self._vectorizer.nationality_vocab.lookup_token(row["nationality"])
        return {"x_data": vector, "y_target": target, "x_length": length}

    def get_num_batches(self, batch_size: int) -> int:
        """The number of full batches in the chosen split."""
        return len(self) // batch_size

    def arrays(self, split: str) -> SplitArrays:
        """A split as integers, computed once."""
        if split not in self._arrays:
            frame = self.frames[split]
            tokens, lengths = self._vectorizer.vectorize_many(frame["surname"].tolist())
            lookup = self._vectorizer.nationality_vocab.lookup_token
            targets = np.array(
                [lookup(name) for name in frame["nationality"].tolist()], dtype=np.int64
            )
            starts = np.cumsum(lengths) - lengths
            self._arrays[split] = SplitArrays(tokens, starts, lengths, targets)
        return self._arrays[split]

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


def require_known_nationalities(
    frame: pd.DataFrame, vectorizer: SurnameVectorizer, source: str
) -> None:
    """Raise :class:`InputError` naming the first row whose nationality the vectorizer lacks."""
    known, column = vectorizer.nationality_vocab, column_of_labels(frame)
    for nationality, row in zip(frame["nationality"], frame["row"], strict=True):
        if nationality not in known:
            raise InputError(
                f"{source}: row {row}, column {column}: {nationality!r} is unknown to the model"
            )
