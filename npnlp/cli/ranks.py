"""Several processes, started by ``mpiexec``, as one run: one line where it fails, one status."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from npnlp.cli.failure import failure_of, launched, one_line
from npnlp.errors import InputError
from npnlp.files.folder_lock import FolderLock
from npnlp.training.distributed.shared import Shared
from npnlp.training.ranks import ALONE, Alone

#: Seconds that the rank which has spoken stays, so that the others find the folder's lock taken.
WAIT = 0.5


def add_distributed(parser: Any) -> None:
    """``--distributed``."""
    parser.add_argument(
        "--distributed", choices=["mpi"],
        help="share every batch among the processes that mpiexec started",
    )  # fmt: skip


@contextmanager
def joined(prefix: str, distributed: str | None, folder: Path) -> Iterator[Alone]:
    """The ranks of the run in ``folder``.

    An error that all ranks meet is raised on rank 0, and the others leave with status 0: it is said
    once, and rank 0's status is that of the run. An error on one rank is said by that rank, and
    ends all. Where the launcher ends them, since one was killed, one says how to go on.
    """
    rank, size = launched()
    if distributed is None:
        if size == 1:
            yield ALONE
        elif rank == 0:
            raise InputError(
                f"mpiexec started {size} processes that would write to one folder; add "
                "--distributed mpi, or start one without mpiexec"
            )
        else:
            sys.exit(0)
        return
    try:
        from npnlp.training.distributed.mpi import Mpi

        mpi = Mpi()
        if mpi.size != size > 1:
            raise InputError(
                f"mpiexec started {size} processes, but each sees {mpi.size}: mpiexec and the MPI "
                "library that mpi4py loads are not of the same MPI; use the mpiexec beside it"
            )
    except InputError:
        if rank == 0:
            raise
        sys.exit(0)
    try:
        with _last_words(prefix, mpi.rank, folder) if mpi.size > 1 else nullcontext():
            yield Shared(mpi) if mpi.size > 1 else ALONE
    except BaseException as error:
        if mpi.size == 1 or (isinstance(error, SystemExit) and not error.code):
            raise
        failure = failure_of(error)
        if (failure or isinstance(error, SystemExit)) and mpi.all_leave():
            if mpi.rank == 0:
                raise
            sys.exit(0)
        message, status = failure or (_place_of(error), 1)
        print(f"{prefix}: rank {mpi.rank} of {mpi.size}: {one_line(message)}; all ranks end",
              file=sys.stderr, flush=True)  # fmt: skip
        mpi.abort(status)


@contextmanager
def _last_words(prefix: str, rank: int, folder: Path) -> Iterator[None]:
    """Answer SIGTERM, which the launcher sends to all ranks when one is killed, with a line.

    A thread does: the main one stands in a call of MPI whose answer never comes.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def listen() -> None:
        for number in iter(lambda: os.read(reader, 1), b""):
            if number[0] == signal.SIGTERM:
                _say_how_to_go_on(prefix, rank, folder)
                os._exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    woken = signal.set_wakeup_fd(writer)
    threading.Thread(target=listen, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGTERM, before)
        os.close(writer)


def _say_how_to_go_on(prefix: str, rank: int, folder: Path) -> None:
    """On rank 0, which holds the lock of the folder, or else on the rank that gets it first."""
    saved = folder / "last.safetensors"
    if not saved.is_file():
        return
    with suppress(InputError, OSError):
        if rank:
            FolderLock(folder).__enter__()
        print(f"{prefix}: a rank was killed, or all were told to end; {saved} is whole: continue "
              "with --resume", file=sys.stderr, flush=True)  # fmt: skip
        time.sleep(WAIT)


def _place_of(error: BaseException) -> str:
    """An error of the program, and where it was."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}, line {frame.lineno})"
