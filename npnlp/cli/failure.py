"""What went wrong, as one line with a status; of several processes, which one says it.

Status 1: a check failed. 2: bad input, or no such device. 130: interrupted.
"""

from __future__ import annotations

import os

from npnlp.errors import DeviceError, DivergenceError, InputError
from npnlp.files.nearest import no_such_file

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
#: How the launchers of Open MPI, MPICH and MVAPICH tell a process its rank and their number.
LAUNCHERS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
)


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
        if isinstance(error, FileNotFoundError) and error.filename:
            return f"{where}{no_such_file(os.fsdecode(error.filename))}", BAD_INPUT
        return f"{where}{error.strerror or error}", BAD_INPUT
    return None


def one_line(message: str) -> str:
    """The message with its line ends and runs of blanks as single blanks."""
    return " ".join(message.split())


def launched() -> tuple[int, int]:
    """The rank of this process and their number, as the launcher says; 0 and 1 without one."""
    for rank, size in LAUNCHERS:
        if os.environ.get(rank, "").isdigit() and os.environ.get(size, "").isdigit():
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1
