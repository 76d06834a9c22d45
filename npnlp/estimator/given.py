"""What the estimator is given, checked and made plain: names, labels, parameters."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.checks import require_not_negative
from npnlp.errors import InputError, short
from npnlp.text.encoding import clean_names
from npnlp.text.given import as_texts


def as_names(X: Any) -> list[str]:
    """The names of :func:`as_texts`, in composed form and trimmed.

    Raises :class:`InputError` as that does, for no rows, and naming the first row that is blank.
    """
    texts = as_texts("X", X)
    if not texts:
        raise InputError("X has 0 rows; give at least one name")
    names = clean_names(texts)
    for row, name in enumerate(names):
        if not name:
            raise InputError(f"X, row {row}: {short(texts[row])} is no name; drop the row")
    return names


def as_classes(y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The sorted distinct labels, and for each row the number of its own.

    Raises :class:`InputError` where there are fewer than two, or a label is missing, blank, a
    fraction, or of a type that has no order with the others.
    """
    import pandas as pd  # it takes half a second to import: only here

    if y is None:
        raise InputError(
            "fit requires y to be passed, but the target y is None; give each name a label"
        )
    labels = _column("y", y)
    given = _column("y", y, dtype=object)
    for row in np.flatnonzero(pd.isna(given)):
        raise InputError(f"y, row {row}: {given[row]!r} is no label; fill it or drop the row")
    if labels.dtype.kind == "U" and not all(isinstance(label, str) for label in given):
        raise InputError("y mixes text with other labels; make them all text")
    if labels.dtype.kind == "f":
        for row in np.flatnonzero(labels != np.floor(labels)):
            raise InputError(
                f"Unknown label type: y, row {row}: {labels[row]} is no class; give text or "
                "whole numbers"
            )
    try:
        classes, targets = np.unique(labels, return_inverse=True)
    except TypeError as error:
        raise InputError(f"y: labels that cannot be sorted ({error}); make them text") from error
    if len(classes) < 2:
        only = f"only one class, {classes[0]!s:.60}" if len(classes) else "0 rows"
        raise InputError(f"y has {only}; a classifier needs at least two classes")
    return classes, targets.astype(np.int64, copy=False)


def as_weights(weights: Any, rows: int) -> NDArray[np.float64] | None:
    """Weights of rows ``(n,)``; None for none.

    Raises :class:`InputError` for another number of them, for one that is negative or not finite,
    and where all are 0.
    """
    if weights is None:
        return None
    try:
        found = _column("sample_weight", weights, dtype=np.float64)
    except TypeError as error:
        raise InputError(f"sample_weight has to be numbers: {error}") from error
    if len(found) != rows:
        raise InputError(f"sample_weight has {len(found)} rows, but X has {rows}")
    for row in np.flatnonzero(~(np.isfinite(found) & (found >= 0))):
        raise InputError(
            f"sample_weight, row {row}: {found[row]} has to be a finite number of at least 0"
        )
    if not found.any():
        raise InputError("sample_weight is 0 in all rows; give some row a weight")
    return found


def row_weights(
    sample_weight: Any, class_weight: Any, classes: NDArray[Any], targets: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """``sample_weight`` times ``class_weight`` of each row; None for none."""
    weights = as_weights(sample_weight, len(targets))
    of_classes = _class_weights(class_weight, classes, targets)
    if of_classes is not None:
        weights = of_classes[targets] * (1.0 if weights is None else weights)
        if not weights.any():
            raise InputError("class_weight and sample_weight leave no row a weight above 0")
    return weights


def _class_weights(
    given: Any, classes: NDArray[Any], targets: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """scikit-learn's: "balanced" is ``n / (C n_c)``; a label that a dict leaves out has 1."""
    if given is None:
        return None
    counts = np.bincount(targets, minlength=len(classes))
    if isinstance(given, str) and given == "balanced":
        return counts.sum() / (len(classes) * counts)  # type: ignore[no-any-return]
    if not isinstance(given, Mapping):
        raise InputError(
            f"class_weight is {short(given)}; it has to be 'balanced', a dict from label to "
            "weight, or None"
        )
    labels = classes.tolist()
    for label, weight in given.items():
        if label not in labels:
            raise InputError(f"class_weight has {short(label)}, which is no label in y")
        require_not_negative(f"class_weight of {short(label)}", plain(weight))
    return np.array([plain(given.get(label, 1.0)) for label in labels], dtype=np.float64)


def column_of(X: Any) -> str | None:
    """The name of the only column of a table, if it is a text."""
    columns = list(getattr(X, "column_names", getattr(X, "columns", ())))
    return columns[0] if len(columns) == 1 and isinstance(columns[0], str) else None


def class_names(classes: NDArray[Any]) -> list[str]:
    """The classes as texts, for a vocabulary."""
    names = [str(label) for label in classes]
    if len(set(names)) < len(names):
        raise InputError("y holds labels that differ but read the same; make them text")
    if not all(name.strip() for name in names):
        raise InputError("y holds a blank label; give each class a name")
    return names


def _column(argument: str, values: Any, dtype: Any = None) -> NDArray[Any]:
    if isinstance(values, str | bytes):
        raise InputError(f"{argument} is the one text {values!r:.60}; put it into a list")
    try:
        array = np.asarray(values, dtype=dtype)
    except ValueError as error:
        raise InputError(f"{argument} is no table: {error}") from error
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InputError(
            f"{argument} has shape {array.shape}; it has to be a list, an array or a Series with "
            "one value a row, or a single column"
        )
    return array


def plain(value: Any) -> Any:
    """A NumPy number as Python's; a search over an array of settings passes NumPy's."""
    return value.item() if isinstance(value, np.generic) else value


def seed_of(random_state: Any) -> int:
    """A seed from what scikit-learn calls ``random_state``.

    A whole number is its own; None draws another one at each call; a NumPy generator (either kind)
    gives its next.
    """
    if random_state is None:
        return secrets.randbits(63)
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    seed = plain(random_state)
    if type(seed) is not int or seed < 0:
        raise InputError(
            f"random_state is {random_state!r}; it has to be a whole number of at least 0, None, "
            "or a generator of NumPy"
        )
    return seed
