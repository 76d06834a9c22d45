"""Work on parts of a range, a part for each thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from itertools import pairwise

from npnlp.backend.threads import threads_now

#: To begin and to wait for another thread takes as long as so many operations.
WORTH = 4_000_000


def share(work: Callable[[int, int], object], size: int, operations: int, unit: int = 8) -> None:
    """``work(low, high)`` for parts of ``range(size)``, on as many threads as there may be.

    Parts are whole multiples of ``unit``, but for the last, and large enough to be worth a thread
    of ``operations`` in all. The parts have to be independent of each other.
    """
    count = min(threads_now(), operations // WORTH, -(-size // unit))
    if count < 2:
        work(0, size)
        return
    cuts = [min(size, -(-size * part // (count * unit)) * unit) for part in range(count + 1)]
    later = [_pool().submit(work, *cut) for cut in pairwise(cuts[1:])]
    try:
        work(0, cuts[1])
    finally:
        wait(later)
    for part in later:
        part.result()


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="npnlp")
