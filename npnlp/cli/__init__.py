"""The ``npnlp`` command. A file a subcommand: HELP, DESCRIPTION, add_options and run.

Nothing heavy is imported before :func:`main` is ready for a Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status, see :func:`npnlp.cli.script.guarded`."""
    _ask_for_one_thread(sys.argv[1:] if arguments is None else arguments)
    previous = signal.getsignal(signal.SIGINT)
    first = previous is signal.default_int_handler and "npnlp.cli.commands" not in sys.modules
    try:
        if first:
            signal.signal(signal.SIGINT, _end)
    except ValueError:  # signals are the main thread's
        first = False
    try:
        from npnlp.cli.commands import read_options, run

        options = read_options(arguments)
    finally:
        if first:
            signal.signal(signal.SIGINT, previous)
    return run(options)


def _end(number: int, frame: FrameType | None) -> None:
    """What Ctrl-C does while imports run: an exception could be lost in somebody's import."""
    os.write(2, b"npnlp: interrupted\n")
    os._exit(130)


def _ask_for_one_thread(arguments: Sequence[str]) -> None:
    """Have BLAS start one thread, which predicting uses; to start more takes a tenth of its time.

    Only before NumPy is loaded, and where the environment asks for no number.
    """
    asked = any(f"{library}_NUM_THREADS" in os.environ for library in ("OPENBLAS", "MKL", "OMP"))
    if [*arguments[:1]] == ["predict"] and "numpy" not in sys.modules and not asked:
        os.environ.update(OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
