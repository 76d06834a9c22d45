"""Checks that the settings of a run have in common."""

from __future__ import annotations

import math
from typing import Any

from npnlp.errors import InputError


def require_at_least_one(settings: Any, *names: str) -> None:
    """Raise :class:`InputError` naming the first of these fields that is below 1."""
    for name in names:
        if getattr(settings, name) < 1:
            raise InputError(f"{name} is {getattr(settings, name)}; it has to be at least 1")


def require_positive(settings: Any, *names: str) -> None:
    """Raise :class:`InputError` naming the first that is no finite number above 0; None passes."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"{name} is {value}; it has to be a finite number above 0")


def require_not_negative(settings: Any, *names: str) -> None:
    """Raise :class:`InputError` naming the first that is no finite number of at least 0."""
    for name in names:
        if not 0 <= getattr(settings, name) < math.inf:
            raise InputError(f"{name} is {getattr(settings, name)}; it has to be at least 0")


def require_below_one(settings: Any, *names: str) -> None:
    """Raise :class:`InputError` naming the first that is not in ``[0, 1)``."""
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value < 1:
            raise InputError(f"{name} is {value}; it has to be at least 0 and below 1")
