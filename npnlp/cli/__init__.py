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
