"""Predictions of any number of names: read, predicted and written a part at a time, in order."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from npnlp.checks import require_whole
from npnlp.classifier.classifier import NOT_FINITE, Classifier, Prediction, not_finite
from npnlp.cli.unknown import Unknown, note_blank
from npnlp.errors import InputError, short
from npnlp.files import replacing
from npnlp.text import clean_name
from npnlp.text.columns import Columns, Layout, folded
from npnlp.text.encoding import each_once
from npnlp.text.name_file import NameFile, Names, read_names

Write = Callable[[str], Any]


class Answers(NamedTuple):
    """How many classes a prediction shows, as JSON or CSV; whether it may be left empty.

    ``exact`` is that of :meth:`Classifier.predict`.
    """

    top_k: int = 1
    as_json: bool = False
    blank: bool = False
    exact: bool = False


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
        write(csv_header(classifier, file.layout, answers.top_k))
    for part in file.parts:
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


def csv_header(classifier: Classifier, layout: Layout | None, top_k: int) -> str:
    """The columns of a table and those of :func:`predicted`.

    A table that has a column of the same name gets ``predicted_nationality`` and so on.
    """
    require_whole("top_k", top_k)
    above, fields, delimiter = "", ["surname"], ","
    if layout is not None:
        above, fields, delimiter = layout.above, [*layout.fields], layout.delimiter
    count = min(top_k, len(classifier.vectorizer.nationality_vocab))
    ends = ["", *(f"_{place}" for place in range(2, count + 1))]
    added = [name + end for end in ends for name in ("nationality", "probability")]
    if not {*map(folded, fields)}.isdisjoint(map(folded, added)):
        added = [f"predicted_{name}" for name in added]
    return above + delimiter.join([*quoted(fields, delimiter), *added]) + "\n"


def predicted(
    classifier: Classifier, names: list[str], heads: Sequence[str], answers: Answers, delimiter: str
) -> tuple[list[str], list[str]]:
    """A line for each name; the names for which the model's numbers are not finite.

    Of a CSV, behind the name's part of ``heads``, nationalities and probabilities, the most
    probable first; of JSON, the object that ``--json`` lists, in ASCII, so that every terminal can
    show it.
    """
    exact = answers.exact
    if answers.as_json:
        found = classifier.predict(names, answers.top_k, exact=exact, blank=True)
        without = [prediction.surname for prediction in found if not prediction.top]
        return [_json(prediction, exact=exact) for prediction in found], without
    classes, best = classifier.best(names, answers.top_k, exact=exact)
    labels = quoted(classifier.vectorizer.nationality_vocab.tokens, delimiter)
    starts = [f"{delimiter}{label}{delimiter}" for label in labels]
    rows, left = list(heads), classes.shape[1]
    for of_place, probabilities in zip(classes.T.tolist(), best.T.tolist(), strict=True):
        left -= 1
        end = "" if left else "\n"
        rows = [
            f"{row}{starts[c]}{probability:.6f}{end}"
            for row, c, probability in zip(rows, of_place, probabilities, strict=True)
        ]
    bad = not_finite(best)
    for place in bad:
        rows[place] = heads[place] + no_prediction("", classifier, answers, delimiter)
    return rows, [names[place] for place in bad]


def no_prediction(name: str, classifier: Classifier, answers: Answers, delimiter: str) -> str:
    """What stands in the place of a prediction that there is not."""
    if answers.as_json:
        return _json(Prediction(name, ()), exact=True)
    return 2 * min(answers.top_k, len(classifier.vectorizer.nationality_vocab)) * delimiter + "\n"


def described(prediction: Prediction, *, exact: bool) -> dict[str, Any]:
    """For JSON. But with ``exact``, digits that depend on the names beside it are left out."""
    if not exact:
        top = [(name, float(f"{probability:.6g}")) for name, probability in prediction.top]
        prediction = Prediction(prediction.surname, tuple(top))
    return prediction.to_dict()


def _json(prediction: Prediction, *, exact: bool) -> str:
    return json.dumps(described(prediction, exact=exact), allow_nan=False) + "\n"


def with_columns(made: list[str], records: Sequence[str], layout: Layout) -> list[str]:
    """Objects of :func:`predicted` with the fields of the table as ``columns``."""
    lines = []
    for text, record in zip(made, records, strict=True):
        held = io.StringIO(record, newline="")
        (fields,) = csv.reader(held, delimiter=layout.delimiter, strict=True)
        columns = json.dumps(dict(zip(layout.fields, fields, strict=True)))
        lines.append(f'{text.rstrip()[:-1]}, "columns": {columns}}}\n')
    return lines


def quoted(texts: Sequence[str], delimiter: str) -> Sequence[str]:
    """Texts as fields of a CSV."""
    special = re.compile(f'["\r\n{re.escape(delimiter)}]')
    if special.search("".join(texts)) is None:
        return texts
    return ['"' + t.replace('"', '""') + '"' if special.search(t) else t for t in texts]


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
