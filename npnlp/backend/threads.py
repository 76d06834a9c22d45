"""The number of threads for matrix products."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import numpy as np

from npnlp.errors import InputError

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
_COUNT = ContextVar("count", default=1)
#: Several threads have to be this many times as fast as one, because they change the last bits.
WORTH = 1.25
#: Matrix products in a trial, and trials of each number of threads.
PRODUCTS, TRIALS = 20, 5


def one_blas_thread() -> AbstractContextManager[Any]:
    """One thread for matrix products, unless the environment asks for another number.

    For a small recurrent network a second thread gains nothing, and where another program uses its
    core, waiting for it costs a factor of fifty. The number of threads also decides the order of
    summation, and so the last bits of a result.
    """
    asked = any(name in os.environ for name in THREAD_VARIABLES)
    return nullcontext() if asked else blas_threads(1)


def blas_threads(count: int) -> AbstractContextManager[None]:
    """``count`` threads for matrix products and compiled loops, until the context ends."""
    if count < 1:
        raise InputError(f"threads is {count}; it has to be a whole number above 0")
    return _limited(count)


@contextmanager
def _limited(count: int) -> Iterator[None]:
    from threadpoolctl import threadpool_limits  # not needed for layers

    token = _COUNT.set(count)
    try:
        with threadpool_limits(limits=count, user_api="blas"):
            yield
    finally:
        _COUNT.reset(token)


def threads_now() -> int:
    """How many threads may share the work of a compiled loop."""
    return _COUNT.get()


def measured_threads(rows: int, size: int) -> int:
    """The number of cores if that many threads are measured to be faster, else 1.

    This measures the matrix product of a step, ``(rows, size) (size, size)`` in float32. The result
    may differ between runs.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    state, weight = np.ones((rows, size), np.float32), np.ones((size, size), np.float32)
    seconds: dict[int, list[float]] = {1: [], cores: []}
    for _ in range(TRIALS):
        for count, taken in seconds.items():
            with blas_threads(count):
                started = time.perf_counter()
                for _ in range(PRODUCTS):
                    np.dot(state, weight)
                taken.append(time.perf_counter() - started)
        if sum(seconds[cores]) > 2 * sum(seconds[1]):  # another program uses a core
            return 1
    one, all_cores = (min(taken) for taken in (seconds[1], seconds[cores]))  # the least disturbed
    return cores if one > WORTH * all_cores else 1


def blas_in_use() -> str:
    """NumPy's BLAS library, its kernels and its threads, on which the last bits depend.

    For example ``openblas 0.3.31 SkylakeX, 1 thread``; "unknown" if it cannot be found.
    """
    from threadpoolctl import threadpool_info

    libraries = [found for found in threadpool_info() if found["user_api"] == "blas"]
    # NumPy does not use all of them: SciPy has its own.
    libraries = [found for found in libraries if "numpy" in found["filepath"]] or libraries
    return "; ".join(map(_described, libraries)) or "unknown"


def _described(library: dict[str, Any]) -> str:
    parts = library["internal_api"], library["version"], library.get("architecture")
    threads = library["num_threads"]
    name = " ".join(str(part) for part in parts if part)
    return f"{name}, {threads} thread{'' if threads == 1 else 's'}"
