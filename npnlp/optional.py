"""Packages that npnlp can do without: what is missing, or there and broken, is one line."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

from npnlp.errors import InputError


@contextmanager
def needs(
    who: str, *packages: str, fix: str = "", kind: type[Exception] = InputError
) -> Iterator[None]:
    """Around the imports of optional ``packages``; ``who`` asks for them.

    An incomplete installation may raise anything, and print what it likes: both become one error of
    the ``kind`` with the cause and ``fix``, by default to install ``packages``. An import of npnlp
    itself that fails is raised as it is.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            yield
    except Exception as error:
        if str(getattr(error, "name", None)).partition(".")[0] == "npnlp":
            raise
        cause, missing = cause_of(error, *packages)
        again = "" if missing else "--force-reinstall "
        remedy = f"pip install {again}{fix or ' '.join(packages)}"
        raise kind(f"{who}: {cause}; {remedy}") from error
    if said.getvalue() and sys.stderr is not None:
        sys.stderr.write(said.getvalue())


def cause_of(error: BaseException, *packages: str) -> tuple[str, bool]:
    """Why an import of ``packages`` failed, and whether one of them is simply not installed."""
    name = getattr(error, "name", None)
    if isinstance(error, ModuleNotFoundError) and name in packages:
        return f"{name} is not installed", True
    what = ": ".join(filter(None, [type(error).__name__, one_line(error)]))
    return f"{' or '.join(packages)} is installed but cannot be imported ({what})", False


def one_line(error: BaseException, length: int = 200) -> str:
    """The error's message on one line, and not long."""
    return " ".join(str(error).split())[:length]
