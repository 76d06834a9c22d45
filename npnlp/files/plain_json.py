"""JSON that others wrote, read within limits, and strictly; and ours, which is always JSON.

Python's own reader lets pass what this project never writes: a key twice, NaN, whole numbers of
any length, half a surrogate pair, lists in lists as deep as the stack. Here each is an error that
names the field.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from npnlp.errors import InputError, short

#: Lists and tables in each other; this project's files need 6.
DEEPEST = 32
#: A list of small things takes many times its text in memory. Any text may hold ``FREE_VALUES``
#: values, and one more for each ``BYTES_PER_VALUE`` bytes.
FREE_VALUES, BYTES_PER_VALUE = 2**16, 8
#: Whole numbers stay below this, on either side of zero.
TOO_LARGE = 2**63
DIGITS = len(str(TOO_LARGE))
_LONG = re.compile(f"[0-9]{{{DIGITS + 1}}}")


def parse_json(content: bytes | str, *, infinity: bool = False) -> Any:
    """The value in a JSON text.

    ``infinity`` lets ``Infinity`` pass, which Python writes though JSON has none. Raises
    :class:`InputError`, in one line, for text that is not UTF-8 or not JSON, and for what is too
    deep, too dense, twice, not finite, too large or no Unicode text, with the name of the field.
    """
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        _require_room(text)
        parse_int = _whole if _LONG.search(text) else None
        value = json.loads(text, object_pairs_hook=_table, parse_int=parse_int)
    except RecursionError as error:
        raise InputError(f"lists or tables more than {DEEPEST} deep") from error
    except InputError:
        raise
    except ValueError as error:  # not UTF-8, or not JSON
        raise InputError(str(error)) from error
    _check(value, math.isnan if infinity else _not_finite)
    return value


def to_json(value: Any, *, indent: int | None = None, ascii_only: bool = True) -> str:
    """``value`` as JSON; a number that is not finite is null, since JSON has none."""
    return json.dumps(_with_nulls(value), indent=indent, ensure_ascii=ascii_only, allow_nan=False)


def _with_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_nulls(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_nulls(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def require_version(version: Any, known: int) -> None:
    """Raise :class:`InputError` for a format version that this program does not read."""
    if type(version) is not int or version != known:
        newer = type(version) is int and version > known
        raise InputError(
            f"format version {short(version)}; this program reads version {known}"
            f"{'; install a newer npnlp' if newer else ''}"
        )


def _require_room(text: str) -> None:
    values = text.count(",") + text.count("[") + text.count("{")
    most = FREE_VALUES + len(text) // BYTES_PER_VALUE
    if values > most:
        raise InputError(f"{values:,} values in {len(text):,} characters; the most is {most:,}")


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        name = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InputError(f"field {short(name)} stands there twice")
    return table


def _whole(digits: str) -> int:
    """The number; one that is too large is :data:`TOO_LARGE`, for :func:`_check` to name."""
    return int(digits) if len(digits) <= DIGITS + 1 else TOO_LARGE


def _not_finite(value: float) -> bool:
    return not math.isfinite(value)


def _check(root: Any, bad: Callable[[float], bool]) -> None:
    """Check every value, without recursion: deep nesting would exhaust the stack."""
    waiting: list[tuple[str, Any, int]] = [("", [root], 0)]
    while waiting:
        name, container, depth = waiting.pop()
        if depth > DEEPEST:
            raise InputError(f"field {short(name)}: lists or tables more than {DEEPEST} deep")
        table = container if type(container) is dict else None
        for key in container:
            value = key if table is None else table[key]
            field, kind = name if table is None else key, type(value)
            if table is not None and not key.isascii():
                _check_text(key, key)
            if kind is str:
                if not value.isascii():
                    _check_text(field, value)
            elif kind is int:
                if not -TOO_LARGE <= value < TOO_LARGE:
                    raise InputError(f"field {short(field)} is a whole number beyond 64 bits")
            elif kind is float:
                if bad(value):
                    raise InputError(f"field {short(field)} is {value}, no finite number")
            elif kind is dict or kind is list:
                waiting.append((field, value, depth + 1))


def _check_text(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"field {short(name)} holds half a surrogate pair") from error
