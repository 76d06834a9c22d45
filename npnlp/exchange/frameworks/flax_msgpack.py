"""Flax's msgpack files: tables of tables whose leaves are arrays, as ``flax.serialization`` writes.

Of msgpack only what such a file has is read: tables, texts and whole numbers as keys, and the two
extensions for arrays and for scalars. Every length is held against the file before anything is
allocated for it; nothing else is made of its bytes than text and numbers.
Source: the msgpack specification, https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError, short
from npnlp.files.nearest import no_such_file
from npnlp.files.plain_json import BYTES_PER_VALUE, DEEPEST, FREE_VALUES
from npnlp.files.tensor_file import LARGEST_FILE, MOST_AXES

Tree = dict[tuple[str, ...], NDArray[Any]]
#: Flax's extensions.
ARRAY, SCALAR = 1, 3
DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
          "float16", "float32", "float64", "bfloat16")  # fmt: skip
#: First bytes of what follows a length: of 1, 2 or 4 bytes, or in the first byte itself.
TEXT, BINARY, TABLE, LIST, EXTENSION = "text", "bytes", "table", "list", "extension"
_LENGTHS = {0xD9: (TEXT, 1), 0xDA: (TEXT, 2), 0xDB: (TEXT, 4), 0xC4: (BINARY, 1),
            0xC5: (BINARY, 2), 0xC6: (BINARY, 4), 0xDC: (LIST, 2), 0xDD: (LIST, 4),
            0xDE: (TABLE, 2), 0xDF: (TABLE, 4), 0xC7: (EXTENSION, 1), 0xC8: (EXTENSION, 2),
            0xC9: (EXTENSION, 4)}  # fmt: skip
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_WHOLE = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_OTHERS = {0xC0: "nil", 0xC2: "false", 0xC3: "true", 0xCA: "float32", 0xCB: "float64"}


def read_msgpack(path: str | Path) -> Tree:
    """The arrays of a file by their path of keys; raises :class:`InputError` naming the file."""
    path = Path(path)
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else no_such_file(path)
        raise InputError(f"{path}: {what}")
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise InputError(f"{size:,} bytes; the limit is {LARGEST_FILE:,}")
        return _Reader(path.read_bytes()).tree()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except InputError as error:
        raise InputError(f"{path}: not a readable msgpack file of Flax: {error}") from error


class _Reader:
    """A place in the bytes; every method reads what is there and goes on."""

    def __init__(self, content: bytes) -> None:
        self.content = memoryview(content)
        self.place = 0
        self.values = FREE_VALUES + len(content) // BYTES_PER_VALUE
        self.found: Tree = {}

    def tree(self) -> Tree:
        kind, length = self._head()
        if kind != TABLE:
            raise InputError(f"it begins with a {kind}, not with a table of parameters")
        self._table(length, ())
        if self.place != len(self.content):
            raise InputError(f"{len(self.content) - self.place:,} bytes after its end")
        return self.found

    def _table(self, length: int, path: tuple[str, ...]) -> None:
        if len(path) >= DEEPEST:
            raise InputError(f"tables more than {DEEPEST} deep")
        seen: set[str] = set()
        for _ in range(length):
            self.values -= 1
            if self.values < 0:
                raise InputError("too many values for its size")
            key = self._key()
            if key in seen:
                raise InputError(f"key {short(key)} stands there twice")
            seen.add(key)
            inside = (*path, key)
            kind, size = self._head()
            if kind == TABLE:
                self._table(size, inside)
            elif kind == EXTENSION:
                self.found[inside] = self._array(size, short("/".join(inside)))
            else:
                raise InputError(f"{short('/'.join(inside))} is a {kind}, not an array")

    def _key(self) -> str:
        """A text, or a whole number, which lists of modules have."""
        kind, length = self._head()
        if kind == "whole number":
            return str(length)
        if kind != TEXT:
            raise InputError(f"a key is a {kind}, not a text")
        return self._text(length)

    def _text(self, length: int) -> str:
        try:
            return bytes(self._take(length)).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError("a text is not UTF-8") from error

    def _array(self, size: int, name: str) -> NDArray[Any]:
        code = self._take(1)[0]
        if code not in (ARRAY, SCALAR):
            raise InputError(f"{name} is an extension {code}, which is no array of Flax")
        inside = _Reader(self._take(size))  # type: ignore[arg-type]  # a view is content too
        found = inside._array_inside(name)
        if inside.place != size:
            raise InputError(f"{name} has {size - inside.place} bytes after its end")
        return found

    def _array_inside(self, name: str) -> NDArray[Any]:
        """``[shape, dtype, bytes]``."""
        if self._head() != (LIST, 3):
            raise InputError(f"{name} has no shape, dtype and bytes")
        kind, axes = self._head()
        if kind != LIST or axes > MOST_AXES:
            raise InputError(f"{name} has no shape, or one of more than {MOST_AXES} axes")
        sizes = [self._head() for _ in range(axes)]
        if any(kind != "whole number" for kind, _ in sizes):
            raise InputError(f"{name} has a shape that is no whole numbers")
        shape = tuple(size for _, size in sizes)
        kind, length = self._head()
        if kind not in (TEXT, BINARY):
            raise InputError(f"{name} has no dtype")
        dtype = self._text(length)
        if dtype not in DTYPES:
            raise InputError(f"{name} is of dtype {short(dtype)}, none of {', '.join(DTYPES)}")
        kind, length = self._head()
        stored = np.dtype("uint16" if dtype == "bfloat16" else dtype)
        if kind != BINARY or length != math.prod(shape) * stored.itemsize:
            raise InputError(f"{name} has {length} bytes, which is not its shape {short(shape)}")
        if max(shape, default=0) > LARGEST_FILE:  # an empty one, beside an axis of 0
            raise InputError(f"{name} has shape {short(shape)}, which is too large")
        flat = np.frombuffer(self._take(length), stored.newbyteorder("<")).reshape(shape)
        if dtype == "bfloat16":  # the upper half of a float32
            return (flat.astype(np.uint32) << 16).view(np.float32)
        return flat

    def _head(self) -> tuple[str, int]:
        """What comes, and its length, or its value where it is a whole number."""
        first = self._take(1)[0]
        if first < 0x80:
            return "whole number", first
        if first < 0xC0:
            kind = TABLE if first < 0x90 else LIST if first < 0xA0 else TEXT
            return kind, first & (0x1F if kind == TEXT else 0x0F)
        if first in _LENGTHS:
            kind, width = _LENGTHS[first]
            return kind, int.from_bytes(self._take(width), "big")
        if first in _FIXED_EXTENSIONS:
            return EXTENSION, _FIXED_EXTENSIONS[first]
        if first in _WHOLE:
            return "whole number", int.from_bytes(self._take(_WHOLE[first]), "big")
        return _OTHERS.get(first, "negative number"), 0

    def _take(self, length: int) -> memoryview:
        if length > len(self.content) - self.place:
            raise InputError(f"cut short at byte {len(self.content):,}")
        self.place += length
        return self.content[self.place - length : self.place]


# --- writing


def msgpack_of(tree: Mapping[tuple[str, ...], NDArray[Any]]) -> bytes:
    """The bytes that ``flax.serialization.to_bytes`` gives the tables of tables of these arrays."""
    nested: dict[str, Any] = {}
    for path, array in tree.items():
        inside = nested
        for key in path[:-1]:
            inside = inside.setdefault(key, {})
        inside[path[-1]] = array
    return _written(nested)


def _written(value: Any) -> bytes:
    if isinstance(value, dict):
        inside = b"".join(_written(key) + _written(item) for key, item in value.items())
        return _counted(len(value), 0x80, 0x0F, (None, 0xDE, 0xDF)) + inside
    if isinstance(value, str):
        text = value.encode()
        return _counted(len(text), 0xA0, 0x1F, (0xD9, 0xDA, 0xDB)) + text
    if isinstance(value, int):
        widths = {code: width for code, width in _WHOLE.items() if value < 256**width}
        code, width = next(iter(widths.items()))
        return bytes([value]) if value < 0x80 else bytes([code]) + value.to_bytes(width, "big")
    array = np.asarray(value, value.dtype.newbyteorder("<"), order="C")
    axes = b"".join(_written(axis) for axis in array.shape)
    content = array.tobytes()
    inside = (
        b"\x93" + _counted(array.ndim, 0x90, 0x0F, (None, 0xDC, 0xDD)) + axes
        + _written(array.dtype.name) + _counted(len(content), None, -1, (0xC4, 0xC5, 0xC6))
        + content
    )  # fmt: skip
    fixed = {size: code for code, size in _FIXED_EXTENSIONS.items()}
    head = (
        bytes([fixed[len(inside)]]) if len(inside) in fixed
        else _counted(len(inside), None, -1, (0xC7, 0xC8, 0xC9))
    )  # fmt: skip
    return head + bytes([ARRAY]) + inside


def _counted(
    count: int, short_code: int | None, most: int, codes: tuple[int | None, int, int]
) -> bytes:
    """A length: in the first byte, where it is small, or in the 1, 2 or 4 bytes after it."""
    if short_code is not None and count <= most:
        return bytes([short_code | count])
    for code, width in zip(codes, (1, 2, 4), strict=True):
        if code is not None and count < 256**width:
            return bytes([code]) + count.to_bytes(width, "big")
    raise InputError(f"{count:,} bytes in one array, more than msgpack holds")
