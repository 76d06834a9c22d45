"""What the command and the scripts share: a parser, and a call whose errors are one line."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from npnlp.backend.threads import one_blas_thread
from npnlp.cli.failure import (
    BAD_INPUT,
    DONE,
    INTERRUPTED,
    failure_of,
    launched,
    one_line,
)
from npnlp.cli.options import Formatter
from npnlp.errors import InputError
from npnlp.files.nearest import did_you_mean
from npnlp.optional import needs
from npnlp.text import own_table_path

#: The option for a table.
TABLE = "--surname-csv"
#: What a process is that has nothing to do but the command.
PROGRAMS = ("npnlp", "npnlp.exe", "surnames.py")


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, and what was probably meant."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Leave with status 2 where something is not known: a subcommand speaks for itself."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._meant(unknown)}")
        return found, unknown

    def _meant(self, unknown: list[str]) -> str:
        """The nearest option, or the option for a file that is there."""
        options = [name for name in self._option_string_actions if name.startswith("--")]
        for word in unknown:
            if word.startswith("--"):
                return did_you_mean(word.partition("=")[0].replace("_", "-"), options)
            if TABLE in options and Path(word).is_file():
                return f"; a table is given with {TABLE} {word}"
        return ""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            meant = did_you_mean(str(value), map(str, action.choices or ()))
            raise argparse.ArgumentError(action, f"{error.message}{meant}") from error

    def error(self, message: str) -> NoReturn:
        """Print ``message`` and leave with status 2; of several processes, the first does."""
        if launched()[0]:
            self.exit(DONE)
        self.exit(BAD_INPUT, f"{self.prog}: {one_line(message)}; see {self.prog} --help\n")


def add_table(parser: argparse.ArgumentParser, option: str = TABLE) -> None:
    """The option that names a table of surnames; NPNLP_SURNAMES_CSV, or else the project's own."""
    parser.add_argument(
        option, type=Path, metavar="FILE",
        default=os.environ.get("NPNLP_SURNAMES_CSV") or own_table_path(),
        help="the table of surnames (or set NPNLP_SURNAMES_CSV)",
    )  # fmt: skip


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


@contextlib.contextmanager
def imports_of(*packages: str) -> Iterator[None]:
    """Around a script's imports of optional packages: without them it ends, with one line."""
    name = Path(sys.argv[0]).name
    try:
        with needs(name, *packages):
            yield
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(BAD_INPUT)


def loaded_plots(prefix: str, module: str = "npnlp.plots") -> ModuleType | None:
    """A module that draws, which loads slowly; None, and a line, where Matplotlib does not load."""
    fix = "matplotlib, or mend its settings (matplotlibrc)"
    try:
        with needs(f"{prefix}: no picture is drawn", "matplotlib", fix=fix):
            return import_module(module)
    except InputError as error:
        print(error, file=sys.stderr)
        return None


def leave_output(stream: Any = None) -> None:
    """Let a stream, by default standard output, go nowhere, once its reader has closed it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), (stream or sys.stdout).fileno())


class StandardError:
    """Standard error, which may be closed, or lose its reader: the work does not depend on it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream or io.StringIO()

    def write(self, text: str) -> int:
        """Write ``text``, if anybody takes it."""
        try:
            self._stream.write(text)
        except OSError:
            leave_output(self._stream)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def ending() -> None:
    """From here on the process ends by itself: another Ctrl-C has nothing to stop."""
    program = Path(sys.argv[0] if sys.argv else "")
    if program.name in PROGRAMS or program.parts[-2:] == ("npnlp", "__main__.py"):
        with contextlib.suppress(ValueError):  # signals are the main thread's
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def guarded(prefix: str, call: Callable[[], int]) -> int:
    """Run ``call``; its status, or one line on standard error and the status of what went wrong.

    0 done, 1 a check failed, 2 bad input or no such device, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a terminal cannot show is escaped
    with contextlib.redirect_stderr(StandardError(sys.stderr)):
        return _guarded(prefix, call)


def _guarded(prefix: str, call: Callable[[], int]) -> int:
    try:
        with one_blas_thread():
            status = call()
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        leave_output()
        return DONE
    except (Exception, KeyboardInterrupt) as error:
        failure = failure_of(error)
        if failure is None:
            raise
        message, status = failure
        if status == INTERRUPTED:
            ending()
        print(f"{prefix}: {one_line(message)}", file=sys.stderr)
        return status
