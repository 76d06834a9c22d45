"""SHA-256 of a run's files, without what a clock put there: equal runs have equal ones."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import safetensors

from npnlp.files.tensors import ENTRY
from npnlp.training.history import CLOCK

#: Fields and columns that a clock fills: of two equal runs on one machine, all that differs.
TIMING = (*CLOCK, *(f"train_{name}" for name in CLOCK))


def fingerprints(folder: str | Path) -> dict[str, str]:
    """The fingerprint of every file in the folder of a run, by name."""
    paths = sorted(path for path in Path(folder).iterdir() if path.is_file())
    return {path.name: fingerprint(path) for path in paths}


def fingerprint(path: str | Path) -> str:
    """SHA-256 of the file, ``TIMING`` left out of JSON, CSV and a tensor file's description."""
    path = Path(path)
    content = READERS.get(path.suffix, Path.read_bytes)(path)
    return hashlib.sha256(content).hexdigest()


def without_timing(value: Any) -> Any:
    """The plain value without the fields of ``TIMING``, however deep they are."""
    if isinstance(value, dict):
        return {k: without_timing(v) for k, v in value.items() if k not in TIMING}
    return [without_timing(item) for item in value] if isinstance(value, list) else value


def _json(text: str) -> bytes:
    return json.dumps(without_timing(json.loads(text)), ensure_ascii=False).encode()


def _table(path: Path) -> bytes:
    header, *rows = csv.reader(io.StringIO(path.read_text("utf-8"), newline=""))
    stable = [place for place, name in enumerate(header) if name not in TIMING]
    return json.dumps([[row[place] for place in stable] for row in (header, *rows)]).encode()


def _tensors(path: Path) -> bytes:
    parts = []
    with safetensors.safe_open(path, framework="numpy") as file:
        parts.append(_json((file.metadata() or {}).get(ENTRY, "{}")))
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name)
            parts += [f"{name} {tensor.dtype} {tensor.shape}".encode(), tensor.tobytes()]
    return b"\n".join(parts)


READERS = {
    ".json": lambda path: _json(path.read_text("utf-8")),
    ".csv": _table,
    ".safetensors": _tensors,
}
