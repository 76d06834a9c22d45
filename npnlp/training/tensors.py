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
#: One entry of the metadata holds all as JSON: the order of several would vary from run to run.
ENTRY = "npnlp"


def save_tensors(
    path: str | Path, kind: str, tensors: Mapping[str, NDArray[Any]], values: Mapping[str, Any]
) -> None:
    """Write tensors, and plain values as JSON in the metadata, atomically.

    ``kind`` says what the file is, so that one cannot be taken for another.
    """
    # safetensors writes the memory of a non-contiguous array as if it were contiguous.
    contiguous = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    described = {"format": kind, "format_version": FORMAT_VERSION, **values}
    metadata = {ENTRY: json.dumps(described, ensure_ascii=False)}
    write_atomic(path, safetensors.numpy.save(contiguous, metadata=metadata))


def load_tensors(path: str | Path, kind: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Undo :func:`save_tensors`; raises :class:`InputError` for a file that is not of ``kind``."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: a folder, not a file")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a readable safetensors file: {error}") from error
    try:
        values = json.loads(metadata.get(ENTRY, "{}"))
        found, version = values.pop("format", None), values.pop("format_version", None)
    except (ValueError, RecursionError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: damaged metadata: {error}") from error
    if found != kind:
        raise InputError(f"{path}: holds {found or 'tensors of unknown origin'}, not {kind}")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: format version {version}; this program reads version {FORMAT_VERSION}"
        )
    return tensors, values
