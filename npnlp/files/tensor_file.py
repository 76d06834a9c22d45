"""Reading and writing safetensors files: a length, a header in JSON, and the bytes of the tensors.

Every number of the header is held against the file before anything is allocated for it, and what
is read is numbers and text. ``safetensors`` itself would read the same, but says less of what is
wrong, takes the second of two entries of one name, and maps the file, so that one which another
program cuts short meanwhile ends the process. Writing, it has the whole file in memory, twice; the
bytes that are written here are the same. The format: https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError, short
from npnlp.files.nearest import no_such_file
from npnlp.files.plain_json import parse_json

#: The most bytes of a header: those of vocabularies of a million characters.
LARGEST_HEADER = 2**25
#: The most bytes of a file: four times the largest model, in float64.
LARGEST_FILE = 2**33 + LARGEST_HEADER
MOST_AXES, LONGEST_NAME = 8, 256
METADATA = "__metadata__"
DTYPES = {
    "BOOL": "?", "U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8", "I8": "i1", "I16": "<i2",
    "I32": "<i4", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip

#: A file's tensors are in this order of their types, and by name: wide numbers stay aligned.
ORDER = ("U64", "I64", "F64", "F32", "U32", "I32", "F16", "U16", "I16", "I8", "U8", "BOOL")

Entry = tuple[int, int, str, np.dtype[Any], tuple[int, ...]]


def read_tensor_file(path: str | Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The tensors of a safetensors file, by name, and its metadata.

    Raises :class:`InputError`, naming the file and the tensor or field.
    """
    path = Path(path)
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else no_such_file(path)
        raise InputError(f"{path}: {what}")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            header, start = _header(file, size)
            metadata = _metadata(header.pop(METADATA, {}))
            entries = sorted(_entry(name, value) for name, value in header.items())
            _require_whole(entries, size - start)
            return _tensors(file, entries, size - start), metadata
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except InputError as error:
        raise InputError(f"{path}: not a readable safetensors file: {error}") from error


def tensor_file_parts(
    tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> list[bytes | memoryview]:
    """What a file of contiguous ``tensors`` is made of: its length and header, then their bytes."""
    codes = {np.dtype(dtype): code for code, dtype in DTYPES.items()}
    place = {name: (ORDER.index(codes[tensor.dtype]), name) for name, tensor in tensors.items()}
    header: dict[str, Any] = {METADATA: dict(metadata)}
    end = 0
    for name in sorted(tensors, key=place.__getitem__):
        tensor = tensors[name]
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": codes[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [start, end]}  # fmt: skip
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = [tensors[name].reshape(-1).view(np.uint8).data for name in header if name != METADATA]
    return [len(text).to_bytes(8, "little") + text, *data]


def _header(file: io.BufferedReader, size: int) -> tuple[dict[str, Any], int]:
    """The header, and where it ends."""
    if size < 8:
        raise InputError(f"{size} bytes, too few for the length of a header")
    length = int.from_bytes(file.read(8), "little")
    if size > LARGEST_FILE:
        raise InputError(f"{size:,} bytes; the limit is {LARGEST_FILE:,}")
    if length > size - 8:
        raise InputError(f"a header of {length:,} bytes in a file of {size:,}")
    if length > LARGEST_HEADER:
        raise InputError(f"a header of {length:,} bytes; the limit is {LARGEST_HEADER:,}")
    content = file.read(length)
    if content[:1] != b"{":
        raise InputError(f"the header begins with {short(content[:1])}, not with a brace")
    try:
        header = parse_json(content)
    except InputError as error:
        raise InputError(f"header: {error}") from error
    return header, 8 + length


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(type(text) is str for text in value.values()):
        raise InputError(f"header: {METADATA} has to be a table of texts")
    return value


def _entry(name: str, value: Any) -> Entry:
    """``(begin, end, name, dtype, shape)`` of a tensor, its bytes as many as its shape says."""
    if len(name) > LONGEST_NAME:
        raise InputError(f"tensor {short(name)} has a name of {len(name):,} characters")
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise InputError(f"tensor {short(name)} has to have just dtype, shape and data_offsets")
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if type(code) is not str or code not in DTYPES:
        raise InputError(
            f"tensor {short(name)} is of dtype {short(code)}, none of {', '.join(DTYPES)}; save "
            "model.float().state_dict()"
        )
    dtype = np.dtype(DTYPES[code])
    if not _whole_numbers(shape) or len(shape) > MOST_AXES:
        raise InputError(f"tensor {short(name)} has shape {short(shape)}")
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise InputError(f"tensor {short(name)} has data_offsets {short(offsets)}")
    if math.prod(axis or 1 for axis in shape) * dtype.itemsize > LARGEST_FILE:
        raise InputError(f"tensor {short(name)} has shape {short(shape)}, which is too large")
    begin, end = offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise InputError(
            f"tensor {short(name)} has {end - begin} bytes, which is not its shape {short(shape)} "
            f"of {code}"
        )
    return begin, end, name, dtype, tuple(shape)


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _require_whole(entries: list[Entry], size: int) -> None:
    """Raise :class:`InputError` where the tensors, one after another, are not all of the file."""
    place = 0
    for begin, end, name, *_ in entries:
        if begin != place:
            raise InputError(f"tensor {short(name)} begins at byte {begin}, not at {place}")
        place = end
    if place != size:
        raise InputError(f"{size:,} bytes below the header, where the tensors have {place:,}")


def _tensors(file: io.BufferedReader, entries: list[Entry], size: int) -> dict[str, NDArray[Any]]:
    data = np.empty(size, dtype=np.uint8)
    if file.readinto(data.data) != size:
        raise InputError("cut short while it was read")
    return {
        name: np.require(data[begin:end].view(dtype).reshape(shape), requirements="A")
        for begin, end, name, dtype, shape in entries
    }
