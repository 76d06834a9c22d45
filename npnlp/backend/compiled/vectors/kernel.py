"""Compile a function once, and print a notice, since that takes seconds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from numba import njit
from numba.core import event
from numba.extending import register_jitable

from npnlp.backend.compiled.vectors.turns import notify, take_turns
from npnlp.backend.compiled.vectors.unfinished import UNFINISHED

COMPILED = __package__.rpartition(".")[0]
P = ParamSpec("P")
R = TypeVar("R")
#: A multiplication and an addition may be fused, with one rounding. Nothing is reordered, so that
#: results are reproducible, and NaN and infinity propagate.
OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}
#: A compiled function releases Python's lock while it runs, so that threads can share work.
UNLOCKED = {"nogil": True, "no_cfunc_wrapper": True}


#: When a file of ``compiled/`` was last changed; Numba checks a function's own file only.
CHANGED = max(path.stat().st_mtime for path in Path(__file__).parents[1].rglob("*.py"))


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, compiled at the first call with new types, and cached on disk."""
    try:
        compiled = njit(cache=True, **OPTIONS, **UNLOCKED)(function)
    except RuntimeError:  # no writable folder
        return njit(**OPTIONS, **UNLOCKED)(function)  # type: ignore[no-any-return]
    for index in _indices(compiled):
        with contextlib.suppress(OSError):  # another process was first
            if index.stat().st_mtime < CHANGED:
                index.unlink()
    take_turns(compiled)
    return compiled  # type: ignore[no-any-return]


def _indices(compiled: Any) -> Iterator[Path]:
    """The files in which Numba lists what it stored of ``compiled``."""
    of = compiled.py_func
    name = f"{of.__module__.rpartition('.')[2]}.{of.__qualname__}-*.nbi"
    return Path(compiled.stats.cache_path).glob(name)


def is_stored(compiled: Any) -> bool:
    """Whether ``compiled`` was compiled before, for some types, and is read from the cache."""
    return compiled.stats.cache_path is not None and any(_indices(compiled))


def inner(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, to be called from compiled functions only, and compiled into them."""
    return register_jitable(**OPTIONS, **UNFINISHED)(function)  # type: ignore[no-any-return]


@cache
def called(compiled: Callable[P, R]) -> Callable[P, R]:
    """A kernel, to be called from other kernels: compiled into them, as an inner function."""
    return inner(compiled.py_func)  # type: ignore[attr-defined]


def distinct(function: Callable[P, R], *made_of: Any) -> Callable[P, R]:
    """``function``, a closure over ``made_of``, with these in its name.

    Numba's cache refers to a function by its name, its types and a counter of the process that
    compiled it. Two closures of one name, cached by two processes, can have the same counter; the
    one loaded first would then be called for both.
    """
    function.__qualname__ += "_".join(map(str, ("", *made_of)))
    return function


class Notice(event.Listener):  # type: ignore[misc]
    """Prints once, on a terminal or in a notebook, that functions are being compiled."""

    def __init__(self) -> None:
        self.said = False

    def on_start(self, event: Any) -> None:
        """Called by Numba before it compiles, not before it loads from its cache."""
        module = event.data["dispatcher"].py_func.__module__
        if not self.said and module.startswith(COMPILED):
            notify("npnlp: Numba compiles for this machine, once; it takes some ten seconds")
            self.said = True

    def on_end(self, event: Any) -> None:
        """Nothing to do."""


event.register("numba:compile", Notice())
