"""A number of cores for everything that this process computes, and two clocks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

from npnlp.backend.threads import blas_threads

__all__ = ["clock_of", "held_to", "now", "threadpool_limits"]

#: XLA's flag that keeps its products in the thread that calls them.
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"


@contextmanager
def held_to(cores: int) -> Iterator[None]:
    """As many cores, and as many threads for every library; JAX has to start inside.

    JAX has no call for its number of threads: it takes as many as there are cores when it first
    computes, so the process itself is held to them, where the system can do that. A thread that
    starts nevertheless counts in the time of the processor.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if cores == 1 and ONE_THREAD not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {ONE_THREAD}".strip()
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if allowed:
        os.sched_setaffinity(0, sorted(allowed)[-cores:])
    try:
        with blas_threads(cores), threadpool_limits(cores):
            yield
    finally:
        if allowed:
            os.sched_setaffinity(0, allowed)


def clock_of(cores: int) -> str:
    """What a ratio is of: time of the processor on one core, wall time on several."""
    return "processor" if cores == 1 else "wall"


def now(clock: str) -> float:
    """Seconds, of this process's processor time or on the wall."""
    return time.process_time() if clock == "processor" else time.perf_counter()
