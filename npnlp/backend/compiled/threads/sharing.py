"""Work on parts of a range, a part for each thread."""

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

#: To begin and to wait for another thread takes as long as so many multiplications.
WORTH = 4_000_000
#: Parts are whole multiples of it: as many columns as a panel of float32 has.
UNIT = ROW // 4
#: More threads than this are never at work.
MOST = 64

#: One thread meets nobody, and counts nothing.
NO_ARRIVALS = np.zeros(1, dtype=np.int64)

#: The cores that this process may use, where threads can be kept to some of them.
CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()

_C: Any = ctypes.CDLL(None) if CORES else None
_HERE = local()
_MEETING = Lock()


def share(work: Callable[..., Any], arguments: tuple[Any, ...], size: int, each: int) -> None:
    """``work(*arguments, low, high)`` for parts of ``range(size)``, on as many threads as may be.

    The parts have to be independent of each other, and are as few as are worth a thread: ``each``
    is how many multiplications there are for one of the range.
    """
    _run(work, arguments, size, _threads(size, each))


def share_meeting(
    work: Callable[..., Any], arguments: tuple[Any, ...], size: int, each: int
) -> None:
    """``work(*arguments, arrivals, threads, low, high)``, whose threads meet on their way.

    (``backend/compiled/threads/meeting.py``.) All of them have to be running, so only one such work
    is done at a time.
    """
    count = _threads(size, each)
    if count == 1:
        work(*arguments, NO_ARRIVALS, 1, 0, size)
        return
    with _MEETING:
        _run(work, (*arguments, np.zeros(1, dtype=np.int64), count), size, count)


def _threads(size: int, each: int) -> int:
    wanted = threads_now()
    if wanted == 1 or size < 2 * UNIT or sys.platform == "win32":  # which has no sched_yield
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
    """The core that this thread is on; -1 where the system does not say."""
    return int(_C.sched_getcpu()) if CORES else -1


def _apart(core: int, work: Callable[..., Any], *arguments: Any) -> None:
    """``work(*arguments)`` on any core but ``core``.

    Systems like to wake a thread on the core of the one that woke it. That one goes on, though,
    and would wait for this one.
    """
    if CORES and getattr(_HERE, "core", None) != core:
        os.sched_setaffinity(0, CORES - {core} or CORES)  # of this thread alone
        _HERE.core = core
    work(*arguments)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2 * MOST, thread_name_prefix="npnlp")


def _begin_anew() -> None:
    """In a child of this process, which has none of its threads."""
    global _MEETING
    _MEETING = Lock()
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
