"""What the command and the scripts share: a parser, and errors as one line with a status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from npnlp.cli.options import Formatter
from npnlp.errors import DeviceError, DivergenceError, InputError

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message: str) -> NoReturn:
        """Print ``message`` and leave with status 2."""
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


def script_parser(description: str | None, out: str) -> argparse.ArgumentParser:
    """A parser with the options of every script: ``--out``, ``--seed`` and ``--quick``."""
    parser = OneLineParser(
        description=(description or "").split("\n\n")[0], formatter_class=Formatter
    )
    parser.add_argument("--out", type=Path, default=Path(out), metavar="DIR",
                        help="where CSV and PNG files go")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--quick", action="store_true", help="the same on a small case")
    return parser


def guarded(prefix: str, call: Callable[[], int]) -> int:
    """Run ``call``; its status, or one line on standard error and the status of what went wrong.

    0 done, 1 a check failed, 2 bad input or no such device, 130 interrupted.
    """

    def fail(message: str, status: int) -> int:
        print(f"{prefix}: {' '.join(message.split())}", file=sys.stderr)
        return status

    try:
        status = call()
        sys.stdout.flush()
        return status
    except (InputError, DeviceError) as error:
        return fail(str(error), BAD_INPUT)
    except DivergenceError as error:
        return fail(str(error), FAILED)
    except KeyboardInterrupt:
        return fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has left; what Python would still flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return fail(f"{where}{error.strerror or error}", BAD_INPUT)
