"""Names as a caller holds them, checked: whatever lists texts becomes a list of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from npnlp.errors import InputError, short


def as_texts(argument: str, values: Any) -> list[str]:
    """The texts of a list, another iterable, an array ``(n,)`` or ``(n, 1)``, or a single column.

    Series of pandas, arrays of NumPy and Arrow, and tables of one column will do. Raises
    :class:`InputError`, naming ``argument``, for one text alone, a table of several columns,
    another shape, and the first row that is no text.
    """
    texts = values if type(values) is list else _listed(argument, values)
    try:
        "".join(texts)  # the fastest way to look at all of them
    except TypeError:
        row = next(row for row, text in enumerate(texts) if not isinstance(text, str))
        what = f"{short(texts[row])} ({type(texts[row]).__name__})"
        raise InputError(
            f"{argument}, row {row}: {what} is no text; give text, or drop the row"
        ) from None
    return texts


def _listed(argument: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes):
        raise InputError(f"{argument} is the one text {short(values)}; put it into a list")
    columns = getattr(values, "column_names", getattr(values, "columns", None))
    if columns is not None:
        values = _only_column(argument, values, list(columns))
    shape = getattr(values, "shape", None)
    if shape is not None and len(shape) == 2 and shape[1] == 1:
        values, shape = values[:, 0], shape[:1]
    if shape is not None and len(shape) != 1:
        raise InputError(
            f"{argument} has shape {shape}; it has to be a list, an array or a Series with one "
            "text a row, or a single column"
        )
    if hasattr(values, "to_pylist"):  # of Arrow, whose items are no texts
        return values.to_pylist()  # type: ignore[no-any-return]
    if isinstance(values, Mapping) or not isinstance(values, Iterable):
        kind = type(values).__name__
        raise InputError(f"{argument} is {short(values)} ({kind}); it has to be a list of texts")
    if shape is not None and hasattr(values, "tolist"):  # many times as fast for texts of Arrow
        return values.tolist()  # type: ignore[no-any-return]
    return list(values)


def _only_column(argument: str, table: Any, columns: list[Any]) -> Any:
    """Raises :class:`InputError` where there is more than one to choose from."""
    if len(columns) != 1:
        names = ", ".join(map(repr, columns[:10])) + ", ..." * (len(columns) > 10)
        example = repr(columns[0]) if columns else "name"
        raise InputError(
            f"{argument} is a table of {len(columns)} columns ({names}); give the one with the "
            f"texts, such as table[{example}]"
        )
    return table[columns[0]]
