"""Several processes, started by ``mpiexec``, as one run: one line where it fails, one status."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from npnlp.cli.failure import failure_of, launched, one_line
from npnlp.errors import InputError
from npnlp.training.distributed.shared import Shared
from npnlp.training.ranks import ALONE, Alone


def add_distributed(parser: Any) -> None:
    """``--distributed``."""
    parser.add_argument(
        "--distributed", choices=["mpi"],
        help="share every batch among the processes that mpiexec started",
    )  # fmt: skip


@contextmanager
def joined(prefix: str, distributed: str | None) -> Iterator[Alone]:
    """The ranks of this run.

    An error that all ranks meet is raised on rank 0, and the others leave with status 0: it is said
    once, and rank 0's status is that of the run. An error on one rank is said by that rank, and
    ends all.
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


def _place_of(error: BaseException) -> str:
    """An error of the program, and where it was."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}, line {frame.lineno})"
