"""Reading the command line, and turning errors into one line and a status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from npnlp.cli import backends, evaluate, gradcheck, predict, train
from npnlp.errors import DeviceError, DivergenceError, InputError
from npnlp.version import __version__

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message: str) -> NoReturn:
        """Print ``message`` and leave with status 2."""
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    parser = OneLineParser(
        prog="npnlp",
        description="Recurrent networks for text with every gradient written by hand.",
    )
    parser.add_argument("--version", action="version", version=f"npnlp {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (train, evaluate, predict, gradcheck, backends):
        module.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status.

    0 done, 1 a check failed, 2 bad input or no such device, 130 interrupted.
    """
    options = make_parser().parse_args(arguments)
    prefix = f"npnlp {options.command}"
    try:
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except (InputError, DeviceError) as error:
        return _fail(prefix, str(error), BAD_INPUT)
    except DivergenceError as error:
        return _fail(prefix, str(error), FAILED)
    except KeyboardInterrupt:
        return _fail(prefix, "interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has left; what Python would still flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(prefix, f"{where}{error.strerror or error}", BAD_INPUT)


def _fail(prefix: str, message: str, status: int) -> int:
    print(f"{prefix}: {' '.join(message.split())}", file=sys.stderr)
    return status
