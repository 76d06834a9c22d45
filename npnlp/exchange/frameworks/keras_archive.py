"""A ``.keras`` file: an archive with config.json, metadata.json and model.weights.h5.

Only the configuration and the weights are read, into memory and within limits; nothing is unpacked
to a folder, and what else is in the archive is not opened. Keras stores its members as they are.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from npnlp.errors import InputError, short
from npnlp.files.nearest import no_such_file
from npnlp.files.tensor_file import LARGEST_FILE

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
#: What an export of this project adds: the vocabularies, and what only training uses.
OWN = "npnlp.json"
MOST_MEMBERS, LARGEST_JSON = 10_000, 2**25
#: A member may take this many times the bytes of the whole archive, and ``SMALL``.
ROOM, SMALL = 16, 2**20
#: The earliest date that an archive holds: the same model is the same bytes.
DATE = (1980, 1, 1, 0, 0, 0)


def read_file(path: Path, largest: int = LARGEST_FILE) -> bytes:
    """The content of a file; raises :class:`InputError` without its name."""
    if not path.is_file():
        raise InputError("a folder, not a file" if path.is_dir() else no_such_file(path))
    try:
        size = path.stat().st_size
        if size > largest:
            raise InputError(f"{size:,} bytes; the limit is {largest:,}")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error


def read_archive(content: bytes) -> dict[str, bytes]:
    """The members that are read, by name: config.json, model.weights.h5 and, if there, npnlp.json.

    Raises :class:`InputError` for a damaged archive, and for one with members that are too large
    for it, encrypted, there twice, or below a path that leads out of it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = _members(archive)
            found = {}
            for name in (CONFIG, WEIGHTS, OWN):
                if name in members:
                    found[name] = _member(archive, members[name], len(content))
                elif name != OWN:
                    raise InputError(f"no {name} in the archive")
            return found
    except InputError:
        raise
    except Exception as error:  # whatever a damaged archive makes zipfile raise
        why = short(" ".join(str(error).split()), 80)
        raise InputError(f"not a readable .keras archive ({why})") from error


def _members(archive: zipfile.ZipFile) -> Mapping[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    infos = archive.infolist()
    if len(infos) > MOST_MEMBERS:
        raise InputError(f"{len(infos):,} members in the archive; the limit is {MOST_MEMBERS:,}")
    for info in infos:
        name = info.orig_filename
        if (
            name.startswith(("/", "\\"))
            or ":" in name
            or ".." in name.replace("\\", "/").split("/")
        ):
            raise InputError(f"member {short(name)} leads out of the archive")
        if name in members:
            raise InputError(f"member {short(name)} is in the archive twice")
        members[name] = info
    return members


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> bytes:
    most = (
        ROOM * size + SMALL if info.filename == WEIGHTS else min(LARGEST_JSON, ROOM * size + SMALL)
    )
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"member {info.filename} is compressed in a way that Keras does not write")
    if info.flag_bits & 1:
        raise InputError(f"member {info.filename} is encrypted")
    if info.file_size > most:
        raise InputError(f"member {info.filename} is {info.file_size:,} bytes unpacked, of an "
                         f"archive of {size:,}; the limit is {most:,}")  # fmt: skip
    with archive.open(info) as member:
        content = member.read(most + 1)
    if len(content) != info.file_size:
        raise InputError(f"member {info.filename} has {len(content):,} bytes, not "
                         f"{info.file_size:,}")  # fmt: skip
    return content


def archive_of(members: Mapping[str, bytes]) -> bytes:
    """The content of an archive with these members, stored as they are."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, DATE), content)
    return target.getvalue()
