"""The records of a CSV file become rows: many lines at once where they are plain, else each."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError, short
from npnlp.text.columns import Layout, plain, wrong_width
from npnlp.text.encoding import LONG, clean_name
from npnlp.text.rows import SPLITS, Coded, Rows, codes_of
from npnlp.text.texts import BLOCK, Integers, Texts

#: What a table may call them, in any letter case.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "development"),
    "test": ("test", "testing"),
}
SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}


class Records:
    """The records of ``source``, a table of this ``layout``, so far."""

    def __init__(self, source: str, layout: Layout) -> None:
        self.source, self.layout = source, layout
        self.codes: dict[str, dict[str, int]] = {"nationality": {}, "split": {}}
        self.parts: dict[str, list[Integers]] = {"nationality": [], "split": []}
        self.names: list[Texts] = []
        self.lines: list[NDArray[np.int32]] = []
        #: The row of the first blank record that no other follows.
        self.blank = 0

    def rows(self) -> Rows:
        """All of them; raises :class:`InputError` where there are none."""
        if not self.lines:
            raise InputError(f"{self.source}: no rows below the header; give at least one a split")
        labels, splits = (
            Coded.one_after_another(self.parts[name], self.codes[name]) for name in self.parts
        )
        return Rows(
            Texts.one_after_another(self.names), labels, splits if len(splits) else None,
            np.concatenate(self.lines), self.layout.fields[self.layout.places["nationality"]],
        )  # fmt: skip

    def add_plain(self, content: bytes, above: int) -> bool:
        """Add complete lines without quotes, below ``above`` others, if all of them are plain.

        That is: records with all their fields, which are clean and not empty, and short. Otherwise
        False, and nothing is added.
        """
        width, mark = len(self.layout.fields), self.layout.delimiter
        if self.blank or not mark.isascii():
            return False
        bytes_ = np.frombuffer(content, dtype=np.uint8)
        ends = bytes_[(bytes_ == ord(mark)) | (bytes_ == ord("\n"))] == ord("\n")
        count = np.count_nonzero(ends)
        if len(ends) != width * count or not ends[width - 1 :: width].all():
            return False
        text = content.decode()
        if not (text.isascii() or unicodedata.is_normalized("NFC", text)):
            return False
        fields = text.replace("\n", mark).split(mark)
        columns = {name: fields[place:-1:width] for name, place in self.layout.places.items()}
        for values in columns.values():
            if not all(values) or [*map(str.strip, values)] != values:
                return False
        if max(map(len, fields)) > LONG or not self._known({*columns.get("split", ())}):
            return False
        self._add(columns, np.arange(above + 1, above + count + 1))
        return True

    def _known(self, splits: Iterable[str]) -> bool:
        return all(split.casefold() in SPLIT_OF for split in splits)

    def add(self, lines: Iterable[str], above: int) -> None:
        """Add the records of ``lines``, which stand below ``above`` others.

        Raises :class:`InputError` for what is no CSV, and naming the row, and the column, of a
        record of another width, an empty field and an unknown split. Records of empty fields are
        none, where no other follows.
        """
        reader, begins = csv.reader(lines, delimiter=self.layout.delimiter, strict=True), above + 1
        columns: dict[str, list[str]] = {name: [] for name in self.layout.places}
        rows: list[int] = []
        try:
            for fields in reader:
                row = above + reader.line_num
                if any(map(str.strip, fields)):
                    if self.blank:
                        self._clean([""] * len(self.layout.fields), self.blank)
                    for name, value in self._clean(fields, row).items():
                        columns[name].append(value)
                    rows.append(row)
                elif fields:
                    self.blank = self.blank or row
                begins = row + 1
                if len(rows) == BLOCK:
                    self._add(columns, rows)
                    columns, rows = {name: [] for name in columns}, []
        except csv.Error as error:
            raise InputError(f"{self.source}: row {begins}: not valid CSV: {error}") from error
        if rows:
            self._add(columns, rows)

    def _clean(self, fields: Sequence[str], row: int) -> dict[str, str]:
        """The fields of a record that are wanted, by their roles."""
        layout, found = self.layout, {}
        if len(fields) != len(layout.fields):
            raise wrong_width(self.source, row, len(fields), len(layout.fields), layout.delimiter)
        for name, place in layout.places.items():
            try:
                found[name] = clean_name(fields[place])
                if not found[name]:
                    raise InputError("empty; fill it or drop the row")
                if name == "split" and not self._known([found[name]]):
                    raise InputError(f"{short(found[name])} is none of {', '.join(SPLITS)}")
            except InputError as error:
                column = plain(layout.fields[place])
                raise InputError(f"{self.source}: row {row}, column {column}: {error}") from error
        return found

    def _add(self, columns: dict[str, list[str]], rows: Sequence[int] | Integers) -> None:
        """Add clean fields, column by column."""
        self.names.append(Texts.of(columns["surname"]))
        if "split" in columns:
            known = {split: SPLIT_OF[split.casefold()] for split in {*columns["split"]}}
            columns["split"] = [*map(known.__getitem__, columns["split"])]
        for name, parts in self.parts.items():
            if name in columns:
                parts.append(codes_of(columns[name], self.codes[name]).astype(np.int32))
        self.lines.append(np.array(rows, dtype=np.int32))
