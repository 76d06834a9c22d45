"""Rows of numbers as text, for JSON: what belongs to a model's description, and not to its tensors.

A row is ``TYPE:DATA``, the type of its numbers and their bytes, little-endian, in base64.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError, short
from npnlp.files.tensors import State

#: The types of numbers that a row may have.
TYPES = ("u1", "u2", "u4", "i4", "i8", "f4", "f8")


def rows_to_text(rows: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """Each row ``(n,)`` as text."""
    return {
        name: f"{row.dtype.str[1:]}:"
        + binascii.b2a_base64(
            row.astype(row.dtype.newbyteorder("<")).tobytes(), newline=False
        ).decode()
        for name, row in rows.items()
    }


def rows_of_text(name: str, texts: Any) -> State:
    """Undo :func:`rows_to_text`; raises :class:`InputError`, naming the row, where it cannot."""
    if not isinstance(texts, Mapping):
        raise InputError(f"{name} is {short(texts)}; it has to hold rows of numbers")
    return {each: _row(f"{name}.{each}", text) for each, text in texts.items()}


def _row(name: str, text: Any) -> NDArray[Any]:
    kind, colon, data = text.partition(":") if isinstance(text, str) else ("", "", "")
    if kind not in TYPES or not colon:
        raise InputError(f"{name} is {short(text)}; it has to be a type, a colon and base64")
    try:
        return np.frombuffer(binascii.a2b_base64(data, strict_mode=True), dtype=f"<{kind}")
    except (ValueError, binascii.Error) as error:
        raise InputError(f"{name}: damaged: {error}") from error
