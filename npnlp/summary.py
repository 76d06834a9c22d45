"""One short line about an object, for its ``repr``: arrays by dtype and shape, not by number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

#: A ``repr`` has at most this many characters.
LONGEST = 200

Class = TypeVar("Class", bound=type)


def summarized(cls: Class) -> Class:
    """Class decorator, for a dataclass or a named tuple: its ``repr`` is :func:`summary`."""
    cls.__repr__ = summary  # type: ignore[assignment]
    return cls


def summary(value: Any) -> str:
    """``<Name field=..., ..., 1,024 bytes>`` of a dataclass or a named tuple.

    The bytes are its ``nbytes``, or those of all its arrays. A field that has its default value is
    left out.
    """
    size = value.nbytes if hasattr(value, "nbytes") else nbytes(value)
    held = [f"{size:,} bytes"] if size else []
    return one_line(type(value).__name__, [*changed_fields(value), *held])


def one_line(name: str, parts: list[str]) -> str:
    """``<name part, part, ...>``; of too many parts, the first and the last."""
    text = f"<{name} {', '.join(parts)}>" if parts else f"<{name}>"
    if len(text) <= LONGEST:
        return text
    *first, last = parts
    end = f" ..., {last[:40]}>"
    return f"<{name} {', '.join(first)}"[: LONGEST - len(end)] + end


def changed_fields(value: Any) -> list[str]:
    """``field=...`` for each field that differs from its default."""
    if is_dataclass(value):
        defaults = {field.name: field.default for field in fields(value)}
    else:
        defaults = {name: value._field_defaults.get(name, MISSING) for name in value._fields}
    given = {name: getattr(value, name) for name in defaults}
    return [
        f"{name}={brief(each)}"
        for name, each in given.items()
        if not (each is defaults[name] or (_is_plain(each) and each == defaults[name]))
    ]


def brief(value: Any) -> str:
    """A value in a few characters: an array as ``float32 (19, 64)``, an object as its class."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, float):
        return f"{value:.3g}"
    if _is_plain(value):
        return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
    if isinstance(value, list | tuple | Mapping) and not hasattr(value, "_fields"):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def nbytes(value: Any) -> int:
    """Bytes of all arrays in an object's fields, and in the objects and lists there; each once."""
    return sum(getattr(each, "nbytes", 0) for each in arrays_in(value))


def arrays_in(value: Any) -> list[Any]:
    """All arrays in an object's fields, and in the objects and lists there; each once."""
    found: dict[int, Any] = {}
    left = [value]
    while left:
        each = left.pop()
        if hasattr(each, "dtype"):
            found[id(each)] = each
        elif isinstance(each, Mapping):
            left += each.values()
        elif is_dataclass(each):
            left += [getattr(each, field.name) for field in fields(each)]
        elif isinstance(each, list | tuple) and not (each and isinstance(each[0], str)):
            left += each
    return list(found.values())


def _is_plain(value: Any) -> bool:
    """Whether its own ``repr`` will do: a number, a text, None, or a tuple of those."""
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)
