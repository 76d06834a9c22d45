"""Predictions of any number of names: read, predicted and written a part at a time, in order."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from npnlp.checks import require_whole
from npnlp.classifier.classifier import NOT_FINITE, Classifier, Prediction, not_finite
from npnlp.cli.unknown import Unknown, note_blank
from npnlp.errors import InputError, short
from npnlp.files import replacing
from npnlp.text import clean_name
from npnlp.text.encoding import each_once
from npnlp.text.name_file import Names, read_names

#: What a field of a CSV is quoted for.
SPECIAL = re.compile(r'[",\r\n]')

Write = Callable[[str], Any]
#: A line of output for each name, and the names for which the model's numbers are not finite.
Lines = Callable[[Classifier, list[str], int], tuple[list[str], list[str]]]


def predict_file(
    classifier: Classifier, source: str, write: Write, top_k: int, lines: Lines,
    blank: bool,
) -> None:  # fmt: skip
    """Predict all names of the file ``source`` ("-" is standard input), with a progress bar.

    Raises :class:`InputError` naming file, row and column of what cannot be read, or predicted;
    with ``blank`` a prediction that is not finite is left empty.
    """
    with contextlib.ExitStack() as opened:
        if source != "-":
            file: BinaryIO = opened.enter_context(Path(source).open("rb"))
        elif sys.stdin is not None:
            file = sys.stdin.buffer
        else:
            raise InputError("standard input is closed; give a file")
        name = "standard input" if source == "-" else source
        advance = opened.enter_context(_progress(file))
        parts = _seen(read_names(file, name), advance)
        predict_parts(classifier, parts, name, write, top_k, lines, blank)


def predict_parts(
    classifier: Classifier, parts: Iterable[Names], source: str, write: Write, top_k: int,
    lines: Lines, blank: bool,
) -> None:  # fmt: skip
    """Predict names part by part; a note says which characters of them the model has never seen."""
    unknown, empty = Unknown(classifier), array("q")
    for part in parts:
        names = each_once(part.names)  # what occurs again is not predicted again
        try:
            made, without = lines(classifier, names, top_k)
        except InputError:
            _raise_with_row(part, source)
            raise
        if without:
            concerned = set(without)
            rows = [r for r, name in zip(part.rows, part.names, strict=True) if name in concerned]
            if not blank:
                raise InputError(f"{source}: row {rows[0]}: {short(without[0])} has {NOT_FINITE}")
            empty.extend(rows)
        unknown.see(part, names)
        if len(names) < len(part.names):
            made = list(map(dict(zip(names, made, strict=True)).__getitem__, part.names))
        write("".join(made))
    unknown.note()
    note_blank(empty)


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
        binary = None if sys.stdout.isatty() else getattr(sys.stdout, "buffer", None)
        yield (lambda text: binary.write(text.encode())) if binary else sys.stdout.write
    else:
        raise InputError("standard output is closed; give a file with --output")


def csv_header(classifier: Classifier, top_k: int) -> str:
    """The columns of :func:`csv_lines`."""
    require_whole("top_k", top_k)
    count = min(top_k, len(classifier.vectorizer.nationality_vocab))
    ends = ["", *(f"_{place}" for place in range(2, count + 1))]
    return ",".join(["surname", *(f"nationality{end},probability{end}" for end in ends)]) + "\n"


def csv_lines(
    classifier: Classifier, names: list[str], top_k: int, *, exact: bool = False
) -> tuple[list[str], list[str]]:
    """A row a name: the name, then nationalities and probabilities, the most probable first."""
    classes, best = classifier.best(names, top_k, exact=exact)
    labels = _fields(classifier.vectorizer.nationality_vocab.tokens)
    rows, left = _fields(names), classes.shape[1]
    for of_place, probabilities in zip(classes.T.tolist(), best.T.tolist(), strict=True):
        left -= 1
        end = "" if left else "\n"
        rows = [
            f"{row},{labels[c]},{probability:.6f}{end}"
            for row, c, probability in zip(rows, of_place, probabilities, strict=True)
        ]
    bad = not_finite(best)
    for place in bad:
        rows[place] = _fields([names[place]])[0] + 2 * classes.shape[1] * "," + "\n"
    return rows, [names[place] for place in bad]


def json_lines(
    classifier: Classifier, names: list[str], top_k: int, *, exact: bool = False
) -> tuple[list[str], list[str]]:
    """An object a name, as ``--json`` lists them; ASCII, so that every terminal can show it."""
    found = classifier.predict(names, top_k, exact=exact, blank=True)
    made = [
        json.dumps(described(prediction, exact=exact), allow_nan=False) + "\n"
        for prediction in found
    ]
    return made, [prediction.surname for prediction in found if not prediction.top]


def described(prediction: Prediction, *, exact: bool) -> dict[str, Any]:
    """For JSON. But with ``exact``, digits that depend on the names beside it are left out."""
    if not exact:
        top = [(name, float(f"{probability:.6g}")) for name, probability in prediction.top]
        prediction = Prediction(prediction.surname, tuple(top))
    return prediction.to_dict()


def _fields(texts: list[str]) -> list[str]:
    """Texts as fields of a CSV."""
    if SPECIAL.search("".join(texts)) is None:
        return texts
    return ['"' + t.replace('"', '""') + '"' if SPECIAL.search(t) else t for t in texts]


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
        yield part
        advance(part.size)


@contextlib.contextmanager
def _progress(file: BinaryIO) -> Iterator[Callable[[int], Any]]:
    """A function that is told how many bytes are done, and shows it on a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda size: None
        return
    from tqdm import tqdm  # only where somebody sees it: importing it takes as long as NumPy

    total = os.fstat(file.fileno()).st_size or None  # a pipe has none
    with tqdm(desc="predicted", total=total, unit="B", unit_scale=True) as bar:
        yield bar.update
