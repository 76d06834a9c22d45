"""Threads that share a range: each works on a part of it."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from itertools import pairwise
from threading import Lock, local
from typing import Any

import numpy as np

from npnlp.backend.compiled.vectors.tile import ROW
from npnlp.backend.threads import threads_now

#: Starting another thread and waiting for it takes as long as this many multiplications.
WORTH = 4_000_000
#: Parts are multiples of this, the columns of a panel of float32.
UNIT = ROW // 4
#: The most threads.
MOST = 64

#: For one thread, which meets no other.
NO_ARRIVALS = np.zeros(1, dtype=np.int64)

#: The cores that this process may use; empty where threads cannot be bound to cores.
CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()

_C: Any = ctypes.CDLL(None) if CORES else None
_HERE = local()
_MEETING = Lock()


def share(work: Callable[..., Any], arguments: tuple[Any, ...], size: int, each: int) -> None:
    """``work(*arguments, low, high)`` for parts of ``range(size)``, one for each thread.

    The parts have to be independent. ``each`` is the number of multiplications for one element of
    the range: fewer threads run where a part would have less than ``WORTH``.
    """
    _run(work, arguments, size, _threads(size, each))


def share_meeting(
    work: Callable[..., Any], arguments: tuple[Any, ...], size: int, each: int
) -> None:
    """``work(*arguments, arrivals, threads, low, high)``, whose threads call ``meet``.

    See ``backend/compiled/threads/meeting.py``. All threads have to run at the same time, so calls
    of this run one after another.
    """
    count = _threads(size, each)
    if count == 1:
        work(*arguments, NO_ARRIVALS, 1, 0, size)
        return
    with _MEETING:
        _run(work, (*arguments, np.zeros(1, dtype=np.int64), count), size, count)


def _threads(size: int, each: int) -> int:
    wanted = threads_now()
    if wanted == 1 or size < 2 * UNIT or sys.platform == "win32":  # no sched_yield
        return 1
    return max(1, min(wanted, MOST, size * each // WORTH, size // UNIT))


def _run(work: Callable[..., Any], arguments: tuple[Any, ...], size: int, count: int) -> None:
    if count == 1:
        work(*arguments, 0, size)
        return
    cuts = [size * part // (count * UNIT) * UNIT for part in range(count)] + [size]
    core = _core()
    later = [_pool().submit(_apart, core, work, *arguments, *cut) for cut in pairwise(cuts[1:])]
    try:
        work(*arguments, 0, cuts[1])
    finally:
        wait(later)
    for part in later:
        part.result()


def _core() -> int:
    """The core that this thread runs on; -1 if unknown."""
    return int(_C.sched_getcpu()) if CORES else -1


def _apart(core: int, work: Callable[..., Any], *arguments: Any) -> None:
    """``work(*arguments)`` on any core but ``core``.

    A system often wakes a thread on the core of the thread that woke it, and that core is busy.
    """
    if CORES and getattr(_HERE, "core", None) != core:
        os.sched_setaffinity(0, CORES - {core} or CORES)  # of this thread only
        _HERE.core = core
    work(*arguments)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2 * MOST, thread_name_prefix="npnlp")


def _begin_anew() -> None:
    """Reset a forked child, which has none of the threads."""
    global _MEETING
    _MEETING = Lock()
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
