"""Work on parts of a range, a part for each thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from itertools import pairwise
from typing import Any

from npnlp.backend.threads import threads_now

#: To begin and to wait for another thread takes as long as so many multiplications.
WORTH = 4_000_000
#: Parts are whole multiples of it: as many rows as tiles have.
UNIT = 8


def share(work: Callable[..., Any], arguments: tuple[Any, ...], size: int, each: int) -> None:
    """``work(*arguments, low, high)`` for parts of ``range(size)``, on as many threads as may be.

    The parts have to be independent of each other, and are as few as are worth a thread: ``each``
    is how many multiplications there are for one of the range.
    """
    count = min(threads_now(), size * each // WORTH, -(-size // UNIT))
    if count < 2:
        work(*arguments, 0, size)
        return
    cuts = [min(size, -(-size * part // (count * UNIT)) * UNIT) for part in range(count + 1)]
    later = [_pool().submit(work, *arguments, *cut) for cut in pairwise(cuts[1:])]
    try:
        work(*arguments, 0, cuts[1])
    finally:
        wait(later)
    for part in later:
        part.result()


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="npnlp")
