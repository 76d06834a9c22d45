"""Predictions of any number of names: read, predicted and written a part at a time, in order."""

from __future__ import annotations

import contextlib
import os
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from npnlp.classifier.classifier import Classifier
from npnlp.classifier.prediction import NOT_FINITE
from npnlp.cli.answers import Answers, csv_header, no_prediction, predicted, quoted, with_columns
from npnlp.cli.unknown import Unknown, note_blank
from npnlp.errors import InputError, short
from npnlp.files import replacing
from npnlp.text import clean_name
from npnlp.text.columns import Columns
from npnlp.text.encoding import each_once
from npnlp.text.name_file import NameFile, Names, read_names

Write = Callable[[str], Any]
#: Of names that are predicted together so many classes are shown: as text they take some tens of
#: megabytes. An object of JSON takes as much as several.
MOST_ANSWERS, OBJECT = 2**20, 16


def predict_file(
    classifier: Classifier, source: str, write: Write, answers: Answers, columns: Columns,
    on_empty: str,
) -> None:  # fmt: skip
    """Predict all names of the file ``source`` ("-" is standard input), with a progress bar.

    Raises :class:`InputError` naming file, row and column of what cannot be read, or predicted;
    with ``answers.blank`` a prediction that is not finite is left empty.
    """
    with contextlib.ExitStack() as opened:
        if source != "-":
            file: BinaryIO = opened.enter_context(Path(source).open("rb"))
        elif sys.stdin is not None:
            file = sys.stdin.buffer
        else:
            raise InputError("standard input is closed; give a file")
        name = "standard input" if source == "-" else source
        names = read_names(file, name, columns, on_empty)
        advance = opened.enter_context(_progress(file, name))
        parts = _seen(names.parts, advance)
        predict_parts(classifier, replace(names, parts=parts), write, answers)


def predict_parts(classifier: Classifier, file: NameFile, write: Write, answers: Answers) -> None:
    """Predict names part by part; a note says which characters of them the model has never seen.

    Of a table every column is kept, and the prediction comes behind them.
    """
    unknown, empty = Unknown(classifier), array("q")
    if not answers.as_json:
        write(csv_header(classifier, file.layout, answers))
    shown = min(answers.top_k, len(classifier.vectorizer.nationality_vocab))
    most = max(1, MOST_ANSWERS // (shown * (OBJECT if answers.as_json else 1)))
    for part in chain.from_iterable(map(partial(_of_at_most, most), file.parts)):
        made, names, without = _of_part(classifier, part, file, answers)
        if without:
            concerned = set(without)
            rows = [r for r, name in zip(part.rows, part.names, strict=True) if name in concerned]
            if not answers.blank:
                raise InputError(
                    f"{file.source}: row {rows[0]}: {short(without[0])} has {NOT_FINITE}"
                )
            empty.extend(rows)
        unknown.see(part, names)
        write("".join(made))
        del part, made, names, without  # before the next part is read
    unknown.note()
    note_blank(empty)


def _of_at_most(most: int, part: Names) -> Iterator[Names]:
    """The names of a part, ``most`` at a time."""
    for first in range(0, len(part.names), most):
        some, size = slice(first, first + most), part.size if not first else 0
        records = part.records and part.records[some]
        yield Names(part.names[some], part.rows[some], size, records, part.blanks)


def _of_part(
    classifier: Classifier, part: Names, file: NameFile, answers: Answers
) -> tuple[Sequence[str], list[str], list[str]]:
    """The lines for all names of a part, the different names, and those without a prediction."""
    names = each_once(part.names)  # what occurs again is not predicted again
    if part.blanks:
        names = [name for name in names if name.strip()]
    delimiter = file.layout.delimiter if file.layout else ","
    each = len(names) == len(part.names)
    behind = part.records is not None and not answers.as_json  # of a record, which may be another
    heads = part.records if behind and part.records and each else [""] * len(names)
    if part.records is None and not answers.as_json:
        heads = quoted(names, ",")
    try:
        made, without = predicted(classifier, names, heads, answers, delimiter)
    except InputError:
        _raise_with_row(part, file.source)
        raise
    if not each:
        found = dict(zip(names, made, strict=True))
        for name in part.names if part.blanks else ():
            if name not in found:
                head = "" if behind or answers.as_json else quoted([name], ",")[0]
                found[name] = head + no_prediction(name, classifier, answers, delimiter)
        made = list(map(found.__getitem__, part.names))
        if behind:
            made = list(map(str.__add__, part.records or (), made))
    if answers.as_json and file.layout is not None and len(file.layout.fields) > 1:
        made = with_columns(made, part.records or (), file.layout)
    return made, names, without


@contextlib.contextmanager
def opened_for(target: str) -> Iterator[Write]:
    """A function that writes text: to a file that appears at the end, or at once to "-".

    Both get the same bytes, UTF-8; only a terminal gets what it can show.
    """
    if target != "-":
        try:
            with replacing(target) as write:
                yield lambda text: write(text.encode())
        except OSError as error:
            raise OSError(error.errno, error.strerror, error.filename or target) from error
    elif sys.stdout is not None:
        yield _write_at_once
    else:
        raise InputError("standard output is closed; give a file with --output")


def _write_at_once(text: str) -> None:
    """Whoever waits at the other end of a pipe gets what there is, in UTF-8."""
    stream = sys.stdout
    binary = None if stream.isatty() else getattr(stream, "buffer", None)
    if binary is None:
        stream.write(text)
    else:
        binary.write(text.encode())
    stream.flush()


def _raise_with_row(part: Names, source: str) -> None:
    """Say which name it is, where it is one."""
    for name, row in zip(part.names, part.rows, strict=True):
        try:
            empty = not clean_name(name)
        except InputError as error:
            raise InputError(f"{source}: row {row}: {error}") from error
        if empty:
            raise InputError(f"{source}: row {row}: empty; give at least one character")


def _seen(parts: Iterable[Names], advance: Callable[[int], Any]) -> Iterator[Names]:
    for part in parts:
        size = part.size
        yield part
        del part  # before the next one is read
        advance(size)


@contextlib.contextmanager
def _progress(file: BinaryIO, name: str) -> Iterator[Callable[[int], Any]]:
    """A function that is told how many bytes are done, and shows it on a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda size: None
        return
    from tqdm import tqdm  # only where somebody sees it: importing it takes as long as NumPy

    packed = name.lower().endswith((".gz", ".parquet"))
    total = None if packed else os.fstat(file.fileno()).st_size or None  # a pipe has none
    with tqdm(desc="predicted", total=total, unit="B", unit_scale=True) as bar:
        yield bar.update
