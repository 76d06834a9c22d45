"""Processes that start at once take turns to compile, so that one pays and the others load."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from npnlp.files import lock

#: Seconds to wait for another process, and between two looks. A process that was stopped while it
#: compiled keeps its turn, and no other may wait for ever.
PATIENCE, PAUSE = 120.0, 0.02


def take_turns(compiled: Any) -> None:
    """Let Numba's dispatcher ``compiled`` compile or load while no other process compiles there."""
    compile_or_load, folder = compiled.compile, Path(compiled.stats.cache_path)

    def compile_in_turn(signature: Any) -> Any:
        with turn(folder), no_collection():
            return compile_or_load(signature)

    compiled.compile = compile_in_turn


@contextlib.contextmanager
def turn(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of ``folder``, which ends with the process, however that ends.

    Nothing is waited for where the folder cannot be opened or its file system has no locks.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # on Windows always
        yield
        return
    try:
        _wait(descriptor, time.monotonic() + patience)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Without Python's search for cycles, an eighth of the time that Numba takes."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _wait(descriptor: int, until: float) -> None:
    said = False
    with contextlib.suppress(OSError):
        while not lock(descriptor) and time.monotonic() < until:
            if not said:
                notify("npnlp: another process compiles with Numba; waiting for what it stores")
                said = True
            time.sleep(PAUSE)


def notify(line: str) -> None:
    """Print ``line`` on a terminal or in a notebook."""
    if sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules):
        print(line, file=sys.stderr, flush=True)
