"""Device work that is captured as a CUDA graph and replayed with one launch.

A graph holds the addresses of its arrays, so these must stay valid. Inputs and outputs are
allocated outside and stay alive; the other arrays come from a memory pool of the graphs, which
never returns memory to the device. The graphs run one after another on one stream, so they can use
the same memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Graphs:
    """Captured work by key, with its own stream and memory pool."""

    def __init__(self, cupy: Any) -> None:
        cuda = self._cuda = cupy.cuda
        self.stream = cuda.Stream(non_blocking=True)
        self._graphs: dict[Hashable, Any] = {}
        self._met: set[Hashable] = set()
        memory: list[Any] = []

        def raw(size: int) -> Any:
            memory.append(cuda.Memory(size))  # a reference, so that it is never freed
            return cuda.MemoryPointer(memory[-1], 0)

        self._pool = cuda.MemoryPool(raw)

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
            self._launched(work)
        else:
            self._graphs[key].launch(self.stream)

    def __len__(self) -> int:
        return sum(graph is not None for graph in self._graphs.values())

    def _launched(self, work: Callable[[], None]) -> None:
        with self._cuda.using_allocator(self._pool.malloc):
            work()

    def _captured(self, work: Callable[[], None]) -> Any:
        self.stream.begin_capture()
        try:
            self._launched(work)
        except BaseException as error:
            with suppress(Exception):  # CUDA may raise the error again
                self.stream.end_capture()
            if not isinstance(error, Exception):
                raise  # an interrupt
            said = " ".join(str(error).split())[:200] or type(error).__name__
            warnings.warn(
                f"a step of training is not captured as a CUDA graph, but launched kernel by "
                f"kernel: {said}",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
        return self.stream.end_capture()
