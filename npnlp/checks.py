"""Checks of settings and arguments; each error names the argument, its value and what it may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from npnlp.errors import InputError, short

Made = TypeVar("Made")


def from_fields(kind: type[Made], values: Any, what: str) -> Made:
    """A dataclass from the ``values`` of its fields by name, such as a file holds them.

    Raises :class:`InputError`, saying ``what`` it is of, for a missing or an unknown field.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{what} is {short(values)}; it has to be a table of fields")
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known, key=str)
    if unknown:
        raise InputError(f"{what} has an unknown field {short(unknown[0])}")
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"{what} is incomplete: {error}") from error


def require_whole(name: str, value: Any, least: int | None = 1) -> None:
    """Raise :class:`InputError` where ``value`` is no whole number of at least ``least``."""
    if not _is_number(value, int) or (least is not None and value < least):
        _refuse(name, value, "a whole number" + ("" if least is None else f" of at least {least}"))


def require_positive(name: str, value: Any) -> None:
    """Raise :class:`InputError` where ``value`` is no finite number above 0."""
    if not _is_number(value) or not 0 < value < math.inf:
        _refuse(name, value, "a finite number above 0")


def require_not_negative(name: str, value: Any) -> None:
    """Raise :class:`InputError` where ``value`` is no finite number of at least 0."""
    if not _is_number(value) or not 0 <= value < math.inf:
        _refuse(name, value, "a finite number of at least 0")


def require_fraction(name: str, value: Any) -> None:
    """Raise :class:`InputError` where ``value`` is no number in ``[0, 1)``."""
    if not _is_number(value) or not 0 <= value < 1:
        _refuse(name, value, "a number of at least 0 and below 1")


def require_flag(name: str, value: Any) -> None:
    """Raise :class:`InputError` where ``value`` is neither true nor false."""
    if type(value) is not bool:
        _refuse(name, value, "true or false")


def _is_number(value: Any, kind: Any = (int, float)) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _refuse(name: str, value: Any, wanted: str) -> None:
    raise InputError(f"{name} is {short(value)}; it has to be {wanted}")
