"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import errno
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from npnlp.errors import InputError
from npnlp.files.plain_json import to_json

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

#: What the content is written to before it is renamed; nobody else gives such names.
TEMPORARY = re.compile(r"\.npnlp-[0-9a-f]{16}\.tmp")
#: Bytes that are written at a time, where a file is made of many small parts.
PART = 2**16


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Replace ``path`` by ``content`` in one step.

    A temporary file beside it is written, flushed to the disk and renamed, and the folder is
    flushed; whoever reads ``path``, also after a crash, finds the old content or the new. An
    ``OSError`` names ``path``, not the temporary file.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with _replaced(Path(path)) as write:
        write(data)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Callable[[bytes], None]]:
    """A function that writes, part by part, what replaces ``path`` at the end.

    As :func:`write_atomic`, for content that does not fit into memory. After an exception ``path``
    is as it was. What is there and no ordinary file, such as a pipe, is written to as it is.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        with path.open("wb", buffering=0) as there:
            yield lambda data: _write_all(there.fileno(), data)
        return
    with _replaced(path) as write:
        yield write


def write_parts(path: str | Path, parts: Iterable[bytes | memoryview]) -> None:
    """:func:`write_atomic` of ``parts``, which need not be in memory all at a time."""
    with _replaced(Path(path)) as write:
        gathered = bytearray()
        for part in parts:
            if len(gathered) + len(part) > PART:
                write(gathered)
                gathered = bytearray()
            if len(part) > PART:
                write(part)
            else:
                gathered += part
        if gathered:
            write(gathered)


def _is_device(path: Path) -> bool:
    """Whether ``path`` is a pipe, a terminal or another device, which must not be replaced.

    ``/dev/stdout`` is one also where it leads to a file.
    """
    if str(path.absolute().parent) in ("/dev", "/dev/fd"):  # not /dev/shm, which is a folder
        return path.exists()
    return path.exists() and not path.is_file() and not path.is_dir()


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Callable[[bytes | bytearray | memoryview], None]]:
    if _is_device(path):
        with _naming(path), path.open("ab", buffering=0) as device:
            yield lambda data: _write_all(device.fileno(), data)
        return
    temporary = path.with_name(f".npnlp-{os.urandom(8).hex()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)

    def write(data: bytes | bytearray | memoryview) -> None:
        with _naming(path):
            _write_all(descriptor, data)

    try:
        with _naming(path):
            descriptor = os.open(temporary, flags, 0o666)  # less what the umask takes
        with contextlib.ExitStack() as opened:
            opened.callback(os.close, descriptor)
            with contextlib.suppress(OSError):  # not every file system has locks
                lock(descriptor)  # says to remove_leftovers that somebody is at it
            yield write
            with _naming(path):
                os.fsync(descriptor)
                if os.name != "posix":  # elsewhere an open file cannot be renamed
                    opened.close()
                temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    with _naming(path):
        _flush_folder(path.parent)


def _write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors name ``path``, not the temporary file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError) and not path.parent.exists():
            reason = "its folder is not there"
        raise OSError(error.errno, reason, str(path)) from error


def lock(descriptor: int) -> bool:
    """Lock the open file for this process; False where another has it. Closing it unlocks it.

    Raises ``OSError`` on a file system without locks.
    """
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # beyond what anybody reads
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of :func:`write_atomic` whose process ended before it could."""
    for path in folder.iterdir():
        if not TEMPORARY.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):  # not ours to remove, or gone meanwhile
            descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                abandoned = lock(descriptor)
            finally:
                os.close(descriptor)
            if abandoned:
                path.unlink()


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it, so that they are there after a crash, too."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        _flush_folder(place.parent)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; see :func:`to_json`."""
    write_atomic(path, to_json(value, indent=2, ascii_only=False) + "\n")


def write_table(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file, atomically; a float keeps every digit."""
    lines = _Lines()
    # With both ends of a line in its own, the writer quotes a field that has either of them.
    writer = csv.writer(lines, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows([[float(v) if isinstance(v, float) else v for v in row] for row in rows])
    write_atomic(path, "".join(lines))


class _Lines(list[str]):
    """The lines of a ``csv.writer``, each with a single end."""

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the columns of the first as CSV, atomically."""
    header = list(rows[0]) if rows else []
    write_table(path, header, [[row[name] for name in header] for row in rows])


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fill_section(path: str | Path, name: str, text: str) -> None:
    """Put ``text`` between ``<!-- NAME -->`` and ``<!-- end of NAME -->`` of a Markdown file.

    Raises :class:`InputError` where the two marks are not there, in that order.
    """
    path = Path(path)
    content = path.read_text(encoding="utf-8")
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = content.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise InputError(f"{path}: the marks {start.strip()} and {end} are missing; add both")
    write_atomic(path, f"{before}{start}{text.rstrip()}\n{end}{after}")


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems flush no folders; what they do instead is theirs.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
