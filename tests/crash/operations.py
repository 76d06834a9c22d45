"""The file operations of a process, one by one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
#: What is called on a path, and what is called on an open file.
ON_PATHS = ("open", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "link", "chmod")
ON_FILES = ("write", "fsync", "ftruncate", "close")


@dataclass(frozen=True)
class Operation:
    """The ``number``-th operation: what, on which file (or from which to which), how many bytes."""

    number: int
    name: str
    paths: tuple[str, ...]
    size: int = 0


#: Is shown an operation before it is done; a number is how many bytes to write of it first.
Before = Callable[[Operation], int | None]
#: Is shown an operation once it is done, or after those bytes.
After = Callable[[Operation, Any], None]


class Watch:
    """Shows ``before`` and ``after`` every file operation of this process below ``root``.

    It wraps the functions of ``os``; an audit hook sees to it that no file is opened for writing,
    renamed or removed in another way. Both stay for the life of the process: watch in a fork.
    """

    def __init__(self, root: Path, before: Before, after: After) -> None:
        self.root, self.before, self.after = str(root), before, after
        self.count, self.inside = 0, False
        self.files: dict[int, str] = {}

    def install(self) -> None:
        for name in (*ON_PATHS, *ON_FILES):
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        sys.addaudithook(self._require_wrapped)

    def _below(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.root)

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def on_paths(*arguments: Any, **options: Any) -> Any:
            if not self._below(arguments[0]):
                return function(*arguments, **options)
            paths = tuple(os.fspath(a) for a in arguments[:2] if self._below(a))
            result = self._do(name, paths, 0, function, arguments, options)
            if name == "open":
                self.files[result] = paths[0]
            return result

        def on_files(descriptor: int, *arguments: Any) -> Any:
            if descriptor not in self.files:
                return function(descriptor, *arguments)
            paths, size = (self.files[descriptor],), 0
            if name == "write":
                size = len(arguments[0])
            if name == "close":
                del self.files[descriptor]
            return self._do(name, paths, size, function, (descriptor, *arguments), {})

        return on_paths if name in ON_PATHS else on_files

    def _do(
        self,
        name: str,
        paths: tuple[str, ...],
        size: int,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        operation = Operation(self.count, name, paths, size)
        self.count += 1
        cut = self.before(operation)
        if cut is not None:
            written = function(arguments[0], arguments[1][:cut])
            self.after(operation, written)
            return written
        self.inside = True
        try:
            result = function(*arguments, **options)
        finally:
            self.inside = False
        self.after(operation, arguments[1] if name == "write" else result)
        return result

    def _require_wrapped(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.inside or not arguments or not self._below(arguments[0]):
            return
        opened = event == "open" and arguments[2] & WRITING
        if opened or event in ("os.rename", "os.remove", "os.mkdir", "os.truncate"):
            raise AssertionError(f"{event} of {arguments[0]} does not go by a wrapped function")
