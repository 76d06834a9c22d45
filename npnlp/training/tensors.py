"""Tensors and their description in a safetensors file: nothing in it is ever executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from npnlp.errors import InputError
from npnlp.files import write_atomic

FORMAT_VERSION = 1


def save_tensors(
    path: str | Path, kind: str, tensors: Mapping[str, NDArray[Any]], values: Mapping[str, Any]
) -> None:
    """Write tensors, and plain values as JSON in the metadata, atomically.

    ``kind`` says what the file is, so that one cannot be taken for another.
    """
    # safetensors writes the memory of a non-contiguous array as if it were contiguous.
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    metadata = {
        "format": kind,
        "format_version": str(FORMAT_VERSION),
        **{name: json.dumps(value, ensure_ascii=False) for name, value in values.items()},
    }
    write_atomic(path, safetensors.numpy.save(contiguous, metadata=metadata))


def load_tensors(path: str | Path, kind: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Undo :func:`save_tensors`; raises :class:`InputError` for a file that is not of ``kind``."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a readable safetensors file: {error}") from error
    found, version = metadata.pop("format", None), metadata.pop("format_version", None)
    if found != kind:
        raise InputError(f"{path}: holds {found or 'tensors of unknown origin'}, not {kind}")
    if version != str(FORMAT_VERSION):
        raise InputError(
            f"{path}: format version {version}; this program reads version {FORMAT_VERSION}"
        )
    try:
        return tensors, {name: json.loads(text) for name, text in metadata.items()}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged metadata: {error}") from error
