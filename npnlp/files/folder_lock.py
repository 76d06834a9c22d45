"""One run a folder: the lock that a process holds on a save directory."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from pathlib import Path

from npnlp.errors import InputError
from npnlp.files import lock, make_folder, remove_leftovers

NAME = ".npnlp.lock"


class FolderLock:
    """``with FolderLock(folder):`` keeps every other process that asks for it out of ``folder``.

    The folder is made where it is missing, and temporary files that killed processes left in it
    are removed. What locks is the operating system, by an open file: however the process ends, the
    lock ends with it. On a file system without locks nothing is kept out. May be nested.

    Raises :class:`InputError` where another process holds it, naming that and since when.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / NAME
        self._descriptor, self._depth = -1, 0

    def __enter__(self) -> None:
        if not self._depth:
            make_folder(self.folder)
            self._descriptor = self._take()
        self._depth += 1

    def __exit__(self, *failure: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._let_go()

    def require(self) -> None:
        """Raise ``OSError`` where the folder is no longer the one that was locked."""
        if not self._is_file(self._descriptor):
            reason = f"deleted or replaced during the run ({NAME} is gone)"
            raise FileNotFoundError(errno.ENOENT, reason, str(self.folder))

    def _take(self) -> int:
        while True:
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                self._require_free(descriptor)
                # Whoever held it removes it at the end: then it is the next file that counts.
                if self._is_file(descriptor):
                    remove_leftovers(self.folder)
                    self._sign(descriptor)
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _require_free(self, descriptor: int) -> None:
        try:
            free = lock(descriptor)
        except OSError:  # a file system without locks
            return
        if not free:
            holder = re.match(rb"process \d+ since [-\d: ]+UTC", os.read(descriptor, 100))
            who = holder.group().decode() if holder else "another process"
            raise InputError(
                f"{self.folder}: {who} is training here; wait for it, or choose another --save-dir"
            )

    def _sign(self, descriptor: int) -> None:
        now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} since {now} UTC\n".encode())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.file)) from error

    def _is_file(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.file.stat())
        except FileNotFoundError:
            return False

    def _let_go(self) -> None:
        ours = self._is_file(self._descriptor)
        if os.name != "posix":  # elsewhere an open file cannot be removed, and a taken one stays
            os.close(self._descriptor)
        if ours:
            with contextlib.suppress(OSError):
                self.file.unlink()
        if os.name == "posix":  # the other way round, it might be another's by now
            os.close(self._descriptor)
