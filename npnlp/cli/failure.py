"""What went wrong, as one line with a status: 1 a check failed, 2 bad input, 130 interrupted."""

from __future__ import annotations

from npnlp.errors import DeviceError, DivergenceError, InputError

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def failure_of(error: BaseException) -> tuple[str, int] | None:
    """The message and the status of what has a remedy; None for an error of the program."""
    if isinstance(error, InputError | DeviceError):
        return str(error), BAD_INPUT
    if isinstance(error, DivergenceError):
        return str(error), FAILED
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}; choose smaller sizes", BAD_INPUT
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}", BAD_INPUT
    return None


def one_line(message: str) -> str:
    """The message with its line ends and runs of blanks as single blanks."""
    return " ".join(message.split())
