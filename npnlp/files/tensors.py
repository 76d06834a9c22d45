"""Tensors and their description in a safetensors file: nothing in it is ever executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError, short
from npnlp.files import write_parts
from npnlp.files.plain_json import parse_json, require_version, to_json
from npnlp.files.tensor_file import LARGEST_HEADER, read_tensor_file, tensor_file_parts

FORMAT_VERSION = 1
#: One entry of the metadata holds all as JSON: the order of several would vary from run to run.
ENTRY = "npnlp"

State = dict[str, NDArray[Any]]


def save_tensors(
    path: str | Path, kind: str, tensors: Mapping[str, NDArray[Any]], values: Mapping[str, Any]
) -> None:
    """Write tensors, and plain values as JSON in the metadata, atomically.

    ``kind`` says what the file is, so that one cannot be taken for another. Raises
    :class:`InputError`, with the old file as it was, where :func:`load_tensors` would refuse it.
    """
    contiguous = {
        name: np.asarray(tensor, tensor.dtype.newbyteorder("<"), order="C")
        for name, tensor in tensors.items()
    }
    described = {"format": kind, "format_version": FORMAT_VERSION, **values}
    metadata = {ENTRY: to_json(described, ascii_only=False)}
    header, *data = tensor_file_parts(contiguous, metadata)
    length = len(header) - 8
    if length > LARGEST_HEADER:
        raise InputError(f"{path}: a header of {length:,} bytes; the limit is {LARGEST_HEADER:,}")
    write_parts(path, [header, *data])


def load_tensors(path: str | Path, kind: str) -> tuple[State, dict[str, Any]]:
    """Undo :func:`save_tensors`; raises :class:`InputError` for a file that is not of ``kind``."""
    tensors, values = read_tensors(path)
    return tensors, require_kind(path, values or {}, kind)


def read_tensors(path: str | Path) -> tuple[State, dict[str, Any] | None]:
    """The tensors of a file, and what this project wrote beside them; None where it did not.

    Raises :class:`InputError`, naming the file and the tensor or field.
    """
    tensors, metadata = read_tensor_file(path)
    if ENTRY not in metadata:
        return tensors, None
    try:
        # The best loss before the first epoch was once written as infinite.
        values = parse_json(metadata[ENTRY], infinity=True)
    except InputError as error:
        raise InputError(f"{path}: damaged metadata: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: damaged metadata: {short(values)} is no table of fields")
    return tensors, values


def below(tensors: Mapping[str, NDArray[Any]], prefix: str) -> State:
    """The tensors whose names begin with ``prefix``, by the rest of their names."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def require_kind(path: str | Path, values: Mapping[str, Any], *kinds: str) -> dict[str, Any]:
    """``values`` without the format and its version.

    Raises :class:`InputError` for another kind than ``kinds``, or for another format version, with
    the version that this program reads.
    """
    left = dict(values)
    found, version = left.pop("format", None), left.pop("format_version", None)
    if type(found) is not str or found not in kinds:
        said = found if type(found) is str and found.isprintable() else short(found)
        what = "tensors of unknown origin" if found is None else f"{said:.60}"
        raise InputError(f"{path}: holds {what}, not {' or '.join(kinds)}")
    try:
        require_version(version, FORMAT_VERSION)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return left
