"""Range checks of settings and arguments; each error names the argument and its value."""

from __future__ import annotations

import math
from typing import Any

from npnlp.errors import InputError, short


def require_whole(name: str, value: Any, least: int = 1) -> None:
    """Raise :class:`InputError` where ``value`` is no whole number of at least ``least``."""
    if not _is_number(value, int) or value < least:
        _refuse(name, value, f"a whole number of at least {least}")


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
