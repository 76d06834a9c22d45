"""Compiling a function once, and saying so while it takes its time."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from numba import njit
from numba.core import event
from numba.extending import register_jitable

COMPILED = __package__.rpartition(".")[0]
P = ParamSpec("P")
R = TypeVar("R")
#: A product and a sum may become one instruction, with one rounding. Nothing else may change, so
#: that a result is the same from run to run, and NaN and infinity arrive where they should.
OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}
#: A compiled function leaves Python's lock to others while it runs, so that threads can share work.
UNLOCKED = {"nogil": True}


#: When a file of ``compiled/`` was last changed: Numba itself looks at a function's own file only.
CHANGED = max(path.stat().st_mtime for path in Path(__file__).parents[1].rglob("*.py"))


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, compiled at its first call for the types of that call, and stored."""
    try:
        compiled = njit(cache=True, **OPTIONS, **UNLOCKED)(function)
    except RuntimeError:  # no folder that can be written to
        return njit(**OPTIONS, **UNLOCKED)(function)  # type: ignore[no-any-return]
    name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}-*.nbi"
    for index in Path(compiled.stats.cache_path).glob(name):
        with contextlib.suppress(OSError):  # another process was first
            if index.stat().st_mtime < CHANGED:
                index.unlink()
    return compiled  # type: ignore[no-any-return]


def inner(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, to be called from compiled functions only, and compiled into them."""
    return register_jitable(**OPTIONS)(function)  # type: ignore[no-any-return]


def distinct(function: Callable[P, R], *made_of: Any) -> Callable[P, R]:
    """``function``, made in another one of what is given, by a name that says of what.

    What is stored refers to such a function by its name, its types and a number that counts
    functions in the process that compiled it. Of two with the same name, what two processes stored
    may have one number, and each would call whichever was loaded first.
    """
    function.__qualname__ += "_".join(map(str, ("", *made_of)))
    return function


class Notice(event.Listener):  # type: ignore[misc]
    """Says once, where somebody looks on, that a function of ``compiled/`` is being compiled."""

    def __init__(self) -> None:
        self.said = False

    def on_start(self, event: Any) -> None:
        """Numba's call before it compiles; it is not called for what was stored."""
        module = event.data["dispatcher"].py_func.__module__
        if not self.said and module.startswith(COMPILED) and sys.stderr.isatty():
            print("compiling for this machine, once: some seconds", file=sys.stderr, flush=True)
            self.said = True

    def on_end(self, event: Any) -> None:
        """Nothing to say."""


event.register("numba:compile", Notice())
