"""The number of threads for matrix products.

Most BLAS libraries have one number for the whole process. So whoever limits it opens a region: the
first one to be opened notes the number, and the last one to be closed sets it back, in whatever
order and in whatever threads they open and close.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import lru_cache, wraps
from threading import Lock
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from npnlp.errors import InputError

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
#: Whether the environment asks for a number; BLAS reads it once, too.
ASKED = any(name in os.environ for name in THREAD_VARIABLES)
#: Several threads have to be this many times as fast as one, because they change the last bits.
WORTH = 1.25
#: Matrix products in a trial, and trials of each number of threads.
PRODUCTS, TRIALS = 20, 5

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class _Region:
    """With it, matrix products and compiled loops have ``count`` threads.

    An inner region of the same thread stands for those around it; of regions in several threads the
    smallest number holds.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> None:
        self.around = _HERE.get()
        self._token = _HERE.set(self)
        self._own: dict[Any, int] = {}
        with _LOCK:
            _OPEN.append(self)
            _apply()
        self.limit_own()

    def limit_own(self) -> None:
        """Limit the libraries that have a number for each thread."""
        for library in _libraries("scipy.linalg" in sys.modules).of_threads:
            if library not in self._own:
                self._own[library] = library.get_num_threads()
                library.set_num_threads(self.count)

    def __exit__(self, *error: object) -> None:
        for library, count in self._own.items():
            library.set_num_threads(count)
        _HERE.reset(self._token)
        with _LOCK:
            _OPEN.remove(self)
            _apply()


_HERE: ContextVar[_Region | None] = ContextVar("region", default=None)
_NOTHING = nullcontext()
_LOCK = Lock()
_OPEN: list[_Region] = []
#: The number of each BLAS library before the first region.
_BEFORE: dict[Any, int] = {}


def one_blas_thread() -> AbstractContextManager[Any]:
    """One thread for matrix products, unless another number is asked for.

    The environment may ask, or :func:`blas_threads` around it. For a small recurrent network a
    second thread gains nothing, and where another program uses its core, waiting for it costs a
    factor of fifty. The number of threads also decides the order of summation, and so the last bits
    of a result.
    """
    return _NOTHING if ASKED or _HERE.get() in _OPEN else _Region(1)


def in_one_blas_thread(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorator: the function runs within :func:`one_blas_thread`."""

    @wraps(function)
    def limited(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with one_blas_thread():
            return function(*args, **kwargs)

    return limited


def blas_threads(count: int) -> AbstractContextManager[None]:
    """``count`` threads for matrix products and compiled loops, until the context ends."""
    if count < 1:
        raise InputError(f"threads is {count}; it has to be a whole number above 0")
    return _Region(count)


def threads_now() -> int:
    """How many threads may share the work of a compiled loop."""
    here = _HERE.get()
    return 1 if here is None else here.count


def limit_what_was_loaded() -> None:
    """Let open regions hold for a BLAS library that was loaded within them."""
    with _LOCK:
        _apply()
    region = _HERE.get()
    if region is not None and region in _OPEN:
        region.limit_own()


def _apply() -> None:
    """Set the process's number: that of the open regions, or without any that of before."""
    if not _OPEN:
        while _BEFORE:
            _set(*_BEFORE.popitem())
        return
    count = _OPEN[0].count
    if len(_OPEN) > 1:
        inside = {region.around for region in _OPEN}
        count = min(region.count for region in _OPEN if region not in inside)
    for library in _libraries("scipy.linalg" in sys.modules).of_process:
        now = library.get_num_threads()
        _BEFORE.setdefault(library, now)
        if now != count:
            _set(library, count)


def _set(library: Any, count: int) -> None:
    library.set_num_threads(count)
    # Later versions of threadpoolctl let nobody else set the number until the thread gives it up.
    if hasattr(library, "clear_controlling_thread"):
        library.clear_controlling_thread()


class _Libraries(NamedTuple):
    """Controllers of BLAS libraries: of one number for the process, and of one for each thread."""

    of_process: list[Any]
    of_threads: list[Any]


@lru_cache
def _libraries(with_scipy: bool) -> _Libraries:
    """All that are loaded; cached, since looking for them takes milliseconds."""
    from threadpoolctl import ThreadpoolController  # not needed for layers

    found: tuple[list[Any], list[Any]] = [], []
    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        openmp = getattr(library, "threading_layer", "") == "openmp"
        found[openmp and library.internal_api == "openblas"].append(library)
    return _Libraries(*found)


def _begin_anew() -> None:
    """Reset a forked child, which has none of the other threads and their regions."""
    global _LOCK
    _LOCK, own, region = Lock(), [], _HERE.get()
    while region is not None:
        own.append(region)
        region = region.around
    _OPEN[:] = [region for region in _OPEN if region in own]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def cores() -> int:
    """The number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def measured_threads(rows: int, size: int) -> int:
    """The number of cores if that many threads are measured to be faster, else 1.

    This measures the matrix product of a step, ``(rows, size) (size, size)`` in float32. The result
    may differ between runs.
    """
    all_cores = cores()
    state, weight = np.ones((rows, size), np.float32), np.ones((size, size), np.float32)
    seconds: dict[int, list[float]] = {1: [], all_cores: []}
    for _ in range(TRIALS):
        for count, taken in seconds.items():
            with blas_threads(count):
                started = time.perf_counter()
                for _ in range(PRODUCTS):
                    np.dot(state, weight)
                taken.append(time.perf_counter() - started)
        if sum(seconds[all_cores]) > 2 * sum(seconds[1]):  # another program uses a core
            return 1
    # Of each, the least disturbed.
    return all_cores if min(seconds[1]) > WORTH * min(seconds[all_cores]) else 1


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
