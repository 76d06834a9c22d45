"""Ctrl-C during training: finish the batch, save, and then stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop; raised between two steps, when its state can be saved."""


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Gives a check that raises :class:`Interrupted` once Ctrl-C was pressed.

    A second Ctrl-C interrupts at once, as usual. Outside the main thread, where signals do not
    arrive, the check never raises.
    """
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    def check() -> None:
        if asked:
            raise Interrupted

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, previous)
