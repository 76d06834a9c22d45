"""One short line about an object, for its ``repr``: arrays by dtype and shape, not by number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    return [
        f"{name}={brief(given)}"
        for name, given, default in _fields_of(value)
        if not (given is default or (_is_plain(given) and given == default))
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
    found: dict[int, int] = {}
    _add_arrays(value, found)
    return sum(found.values())


def _add_arrays(value: Any, found: dict[int, int]) -> None:
    if hasattr(value, "dtype"):
        found[id(value)] = getattr(value, "nbytes", 0)
    elif isinstance(value, Mapping):
        for each in value.values():
            _add_arrays(each, found)
    elif is_dataclass(value):
        for _, each, _ in _fields_of(value):
            _add_arrays(each, found)
    elif isinstance(value, list | tuple):  # a named tuple too
        for each in value:
            _add_arrays(each, found)


def _is_plain(value: Any) -> bool:
    """Whether its own ``repr`` will do: a number, a text, None, or a tuple of those."""
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def _fields_of(value: Any) -> Iterator[tuple[str, Any, Any]]:
    """The name, the value and the default of each field of a dataclass or a named tuple."""
    if is_dataclass(value):
        for field in fields(value):
            yield field.name, getattr(value, field.name), field.default
    else:
        for name in value._fields:
            yield name, getattr(value, name), value._field_defaults.get(name, MISSING)
