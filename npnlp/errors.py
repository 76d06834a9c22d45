"""Errors that a person can mend. The command line prints them as one line, with status 2."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """A file, a row, a value or an argument is not what it has to be.

    The message names the file, the row and the column (or the argument) and what to do.
    """


class DeviceError(RuntimeError):
    """The backend that was asked for cannot be used here; the message says why and what to do."""


class DivergenceError(RuntimeError):
    """Training met a number that is not finite, and stopped before it changed the weights.

    ``finding`` (:class:`npnlp.diagnosis.finding.Finding`) says where, and ``replay``
    (:class:`npnlp.training.step_record.Replay`) is the step; both are None where nobody has looked.
    """

    def __init__(self, message: str, finding: Any = None, replay: Any = None) -> None:
        super().__init__(message)
        self.finding = finding
        self.replay = replay


def require_known(name: str, value: Any, known: Iterable[str]) -> None:
    """Raise :class:`InputError` where ``value`` is none of ``known``."""
    names = tuple(known)
    if value not in names:
        raise InputError(f"{name} {short(value)} is not known; choose one of {', '.join(names)}")


def short(value: Any, length: int = 60) -> str:
    """``value`` for a message: in one line, printable, and not long."""
    value = value[:length] if isinstance(value, str) else value
    text = repr(value) if repr(value).isprintable() else ascii(value)
    return text if len(text) <= length else f"{text[: length - 3]}..."
