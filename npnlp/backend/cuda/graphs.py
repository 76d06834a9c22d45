"""Device work that is captured as a CUDA graph and replayed with one launch.

A graph holds the addresses of its arrays, so these must stay valid. Inputs and outputs are
allocated outside and stay alive; the other arrays come from a memory pool of the graphs, which
returns memory to the device only when no graph is left. The graphs run one after another on one
stream, so they can use the same memory.
"""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

#: The status of CuPy's error where the device has no memory left: ``cudaErrorMemoryAllocation``.
OUT_OF_MEMORY = 2


class Graphs:
    """Captured work by key, with its own stream and memory pool.

    ``xp`` is the :class:`npnlp.backend.cuda.products.Namespace`. Captured work calls no cuBLAS,
    and is launched without cuBLAS before it is captured, so that both have the same bits; work that
    cannot be captured is launched with it.
    """

    def __init__(self, xp: Any) -> None:
        cuda = self._cuda = xp.cuda
        self._xp, self._default = xp, xp.get_default_memory_pool()
        # Earlier graphs have left blocks there that belong to their stream: no other uses them.
        self._default.free_all_blocks()
        self.stream = cuda.Stream(non_blocking=True)
        self._graphs: dict[Hashable, Any] = {}
        self._met: set[Hashable] = set()
        self._capturing = False
        allocate = weakref.WeakMethod(self._allocate)  # strong, it would be a cycle
        self._pool = cuda.MemoryPool(lambda size: allocate()(size))  # type: ignore[misc]
        # At its limit CuPy would free what the graphs use; `_allocate` holds the limit instead.
        self._pool.set_limit(size=0)
        # A pool that is only dropped keeps its memory: its free blocks and their arena hold each
        # other, in C++ (cupy/cuda/memory.pyx).
        weakref.finalize(self, _give_back, self._graphs, self._pool).atexit = False

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Launches inside go to the graphs' stream, in order with those outside."""
        outside = self._cuda.get_current_stream()
        self.stream.wait_event(outside.record())
        try:
            with self.stream:
                yield
        finally:
            outside.wait_event(self.stream.record())

    def run(self, key: Hashable, work: Callable[[], None]) -> None:
        """Run ``work``, which may only launch kernels, the same ones for the same key.

        The first call launches them directly, so that all are compiled and the pool has the memory.
        The second call captures them, and from then on the graph is launched. If they cannot be
        captured, one warning says why, and they are launched directly.
        """
        if key not in self._met:
            self._met.add(key)
            self._launched(work)
            return
        if key not in self._graphs:
            self._graphs[key] = self._captured(work)
        if self._graphs[key] is None:
            self._launched(work, own_products=False)
        else:
            self._graphs[key].launch(self.stream)

    def __len__(self) -> int:
        return sum(graph is not None for graph in self._graphs.values())

    def _launched(self, work: Callable[[], None], own_products: bool = True) -> None:
        with self._cuda.using_allocator(self._pool.malloc), self._xp.graph_work(own_products):
            work()

    def _captured(self, work: Callable[[], None]) -> Any:
        """The graph of ``work``, or None after a warning."""
        try:
            with self._capture():
                self.stream.begin_capture()
                try:
                    self._launched(work)
                except BaseException:
                    with suppress(Exception):  # CUDA may raise the error again
                        self.stream.end_capture()
                    raise
                return self.stream.end_capture()  # makes the graph executable, too
        except Exception as error:
            said = " ".join(str(error).split())[:200] or type(error).__name__
            warnings.warn(
                f"a step of training is not captured as a CUDA graph, but launched kernel by "
                f"kernel: {said}",
                RuntimeWarning,
                stacklevel=2,
            )
            return None

    @contextmanager
    def _capture(self) -> Iterator[None]:
        """No garbage is collected inside: it may hold memory, and nothing may be freed there."""
        collects = gc.isenabled()
        gc.disable()
        self._capturing = True
        try:
            yield
        finally:
            self._capturing = False
            if collects:
                gc.enable()

    def _allocate(self, size: int) -> Any:
        """New memory for the pool; where there is none, others give back what they do not use."""
        for make_room in (self._default.free_all_blocks, self._forget):
            with suppress(MemoryError):
                return self._new_memory(size)
            if self._capturing:
                break
            make_room()
        return self._new_memory(size)

    def _new_memory(self, size: int) -> Any:
        """``size`` bytes of the device, or CuPy's :class:`MemoryError`."""
        cuda, limit = self._cuda, self._default.get_limit()
        total = self._pool.total_bytes()  # with these bytes already
        full = cuda.memory.OutOfMemoryError
        if limit and self._default.total_bytes() + total > limit:
            raise full(size, total - size, limit)
        try:
            return cuda.MemoryPointer(cuda.Memory(size), 0)
        except cuda.runtime.CUDARuntimeError as error:
            if error.status != OUT_OF_MEMORY:
                raise
            raise full(size, total - size) from error

    def _forget(self) -> None:
        """Give up all graphs, which are captured anew, and the memory that only they use."""
        self.stream.synchronize()
        for key in [key for key, graph in self._graphs.items() if graph is not None]:
            del self._graphs[key]
        self._met.intersection_update(self._graphs)
        gc.collect()
        self._pool.free_all_blocks()
        self._default.free_all_blocks()


def _give_back(graphs: dict[Hashable, Any], pool: Any) -> None:
    """Destroy the graphs, and then return their memory to the device."""
    graphs.clear()
    pool.free_all_blocks()
