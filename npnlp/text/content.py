"""Reading a file of limited size."""

from __future__ import annotations

from pathlib import Path

from npnlp.errors import InputError

#: Bytes that are read at once: reading up to the limit at once would allocate the limit.
CHUNK = 2**20


def read_bytes(path: Path, limit: int) -> bytes:
    """All of a file, which may be a pipe.

    Raises :class:`InputError` where it has more than ``limit`` bytes or cannot be read.
    """
    content = bytearray()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                content += chunk
                if len(content) > limit:
                    raise InputError(f"{path}: over {limit:,} bytes, the limit")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return bytes(content)
