"""Another population: the same names in each class, and other shares of the classes.

    p'(c | x) ~ p(c | x) s_c / h_c        h: the shares of training, s: those of the population

which adds ``log(s_c / h_c)`` to the logit of class c. Without a list of shares, expectation and
maximisation find them from names without labels:

    E: p'_i(c) as above, of name i       M: s_c = (sum_i p'_i(c) + 100 h_c) / (n + 100)

from s = h on. The 100 names with the shares of training, that M adds, keep the shares of rare
classes from running off to zero; their number was chosen on validation rows. h is the mean of the
model's probabilities on the rows held out, so that nothing changes where the population is the
same. Source: Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a
priori probabilities", 2002; Alexandari, Kundaje and Shrikumar, "Maximum likelihood with
bias-corrected calibration is hard-to-beat at label shift adaptation", 2020.
"""

from __future__ import annotations

import copy
import csv
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError, short
from npnlp.files.nearest import did_you_mean
from npnlp.text.columns import plain, wrong_width
from npnlp.text.encoding import clean_name
from npnlp.text.given import as_texts
from npnlp.text.unpacked import unpacked

#: As many names with the shares of training are added to those that shares are estimated from.
ADDED = 100
#: Shares that change by less than this in sum are found.
ENOUGH, MOST_STEPS = 1e-6, 10_000
#: A share of zero, as far as logarithms go.
LEAST = 1e-30
#: What the columns of a file of shares may be called.
LABELS, SHARES = ("nationality", "label", "country", "class"), ("share", "prior", "count")


def estimate_shares(probabilities: NDArray[Any], held: NDArray[np.float64]) -> NDArray[np.float64]:
    """s ``(C,)`` from the probabilities ``(n, C)`` of names and the shares ``held (C,)`` of h."""
    p, shares = probabilities.astype(np.float64), held
    for _ in range(MOST_STEPS):
        of_names = p * (shares / held)
        of_names /= of_names.sum(axis=1, keepdims=True)
        before, shares = shares, (of_names.sum(axis=0) + ADDED * held) / (len(p) + ADDED)
        if np.abs(shares - before).sum() < ENOUGH:
            break
    return shares


def estimated_shares(classifier: Classifier, surnames: Iterable[Any]) -> dict[str, float]:
    """The share of each class among names without labels; see :func:`for_shares`.

    Names of which no character is known to the model say nothing, and are left out.
    """
    texts = as_texts("surnames", surnames)
    p = np.delete(classifier.probabilities(texts), classifier.unread(texts), axis=0)
    shares = estimate_shares(p[np.isfinite(p).all(axis=1)], _held_shares(classifier))
    return dict(zip(classifier.vectorizer.nationality_vocab.tokens, shares.tolist(), strict=True))


def for_shares(classifier: Classifier, shares: Mapping[str, float]) -> Classifier:
    """A copy for names of a population with these shares of classes; they need not sum to one.

    It has no rows held out: thresholds found for other shares do not hold. Raises
    :class:`InputError` for a label that is unknown or missing, a share that is no number of at
    least 0, shares that are all 0, and a model without rows held out.
    """
    held, labels = _held_shares(classifier), classifier.vectorizer.nationality_vocab.tokens
    for label in shares:
        if label not in labels:
            raise InputError(
                f"{short(label)} is no label of the model{did_you_mean(str(label), labels)}"
            )
    missing = [label for label in labels if label not in shares]
    if missing:
        raise InputError(f"{short(missing[0])} has no share; give 0 where there are none")
    try:
        given = np.array([shares[label] for label in labels], dtype=np.float64)
    except (TypeError, ValueError):
        given = np.array([math.nan])
    if not (np.isfinite(given) & (given >= 0)).all() or not given.max():
        raise InputError("shares have to be numbers of at least 0, and not all 0")
    model = copy.deepcopy(classifier.model)
    given /= given.max()  # so that their sum is finite
    change = np.log(np.maximum(given / given.sum(), LEAST) / held)
    model.fc2.parameters["bias"][...] += model.backend.asarray(change, dtype=model.dtype)
    same = classifier.vectorizer, classifier.table
    return Classifier(model, *same, familiarity=classifier.familiarity)


def read_shares(path: str | Path) -> dict[str, float]:
    """Shares from a CSV with a column of labels and one called share, prior or count.

    With commas, semicolons or tabs, in what :func:`npnlp.text.unpacked.unpacked` reads. Raises
    :class:`InputError` naming the file, and the row and column of what is wrong.
    """
    try:
        with Path(path).open("rb") as file:
            text = b"".join(unpacked(file, str(path), 2**20)).decode()
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        lines = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
        rows = [(lines.line_num, fields) for fields in lines if any(map(str.strip, fields))]
    except (OSError, ValueError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read as a CSV: {why}") from error
    header = [field.strip() for field in rows[0][1]] if rows else []
    label, share = (_column(path, header, names) for names in (LABELS, SHARES))
    found: dict[str, float] = {}
    for row, fields in rows[1:]:
        if len(fields) != len(header):
            raise wrong_width(path, row, len(fields), len(header), delimiter)
        name, text = clean_name(fields[label]), fields[share]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise InputError(
                f"{path}: row {row}, column {header[share]}: {short(text)} is no number of at "
                "least 0"
            )
        if name in found:
            raise InputError(
                f"{path}: row {row}, column {header[label]}: {short(name)} stands there twice; "
                "give each label once"
            )
        found[name] = value
    return found


def _column(path: str | Path, header: list[str], names: tuple[str, ...]) -> int:
    for place, column in enumerate(header):
        if column.casefold() in names:
            return place
    have = plain(", ".join(header)) or "nothing"
    raise InputError(f"{path}: row 1: a column {' or '.join(names)} is missing; found: {have}")


def _held_shares(classifier: Classifier) -> NDArray[np.float64]:
    if classifier.calibration is None:
        raise InputError(
            "the model has no rows held out, which say what shares it is used to; train it with at "
            "least 100 validation rows"
        )
    return classifier.calibration.shares
