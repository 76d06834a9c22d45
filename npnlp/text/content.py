"""The bytes of a file, if they are not too many."""

from __future__ import annotations

from pathlib import Path

from npnlp.errors import InputError

#: Bytes at a time: a single read of a limit sets aside as many as the limit.
CHUNK = 2**20


def read_bytes(path: Path, limit: int) -> bytes:
    """All of a file, which may be a pipe; raises :class:`InputError` for more than ``limit``."""
    content = bytearray()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            content += chunk
            if len(content) > limit:
                raise InputError(f"{path}: over {limit:,} bytes, the limit")
    return bytes(content)
