"""Streams and graphs: ``cupy.cuda``, as far as it is used."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

from tests.support.device.arrays import Device, Forbidden
from tests.support.device.memory import (
    CAPTURE_UNSUPPORTED,
    CUDARuntimeError,
    Memory,
    MemoryPointer,
    MemoryPool,
    OutOfMemoryError,
)

#: ``begin_capture`` in ``cupy/cuda/stream.pyx``, which takes the relaxed mode if it is not told.
ON_DEFAULT = "cannot capture on the default (legacy) stream"
MODES = ("global", "thread local", "relaxed")
#: What CUDA says of a call that it does not allow in a capture.
UNSUPPORTED = "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing"


class Graph:
    """What was captured, with the addresses that it was captured with (``cupy/cuda/graph.pyx``)."""

    def __init__(self, device: Device, tape: list[Callable[[], Any]]) -> None:
        self.device, self.tape, self.broken = device, tape, False
        self.memory = {memory.address: memory.storage for memory in device.touched}
        device.memory.graphs.add(self)

    @staticmethod
    def from_stream(device: Device, tape: list[Callable[[], Any]]) -> Graph:
        """Make the graph executable, which may fail: after the capture has ended."""
        device.graphs += 1
        return Graph(device, tape)

    def launch(self, stream: Any = None) -> None:
        self.device.refuse("a graph launched in a capture")
        if self.broken:
            raise CUDARuntimeError(700, "cudaErrorIllegalAddress: its memory has been freed")
        self.device.launches += 1
        self.device.memory.poison()  # what it does not compute itself shows
        for call in self.tape:
            call()


class Stream:
    """A stream; its work is done at once, so there is nothing to wait for."""

    def __init__(self, cuda: Any, ptr: int, non_blocking: bool = False) -> None:
        self.cuda, self.device, self.non_blocking = cuda, cuda.device, non_blocking
        self.ptr = ptr

    def __enter__(self) -> Stream:
        self.cuda.streams.append(self)
        return self

    def __exit__(self, *error: Any) -> None:
        assert self.cuda.streams.pop() is self

    def record(self) -> str:
        self.device.refuse("an event recorded outside")
        return "event"

    def wait_event(self, event: str) -> None:
        assert event == "event"

    def synchronize(self) -> None:
        if self.device.tape is not None:
            raise CUDARuntimeError(CAPTURE_UNSUPPORTED, UNSUPPORTED)
        self.device.reads.append("synchronize")

    def begin_capture(self, mode: int | None = None) -> None:
        if not self.ptr:
            raise Forbidden(ON_DEFAULT)
        assert self.non_blocking
        assert self.cuda.streams[-1] is self, "work would go to another stream"
        self.device.tape, self.device.touched = [], set()
        self.device.memory.mode = MODES[2 if mode is None else mode]

    def end_capture(self) -> Graph:
        device = self.device
        tape, device.tape = device.tape, None
        device.memory.mode = ""
        assert tape is not None
        try:
            return Graph.from_stream(device, tape)
        finally:
            device.touched = set()


class Cuda:
    """``cupy.cuda``."""

    MemoryPointer = MemoryPointer
    memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)

    def __init__(self, device: Device) -> None:
        self.device = device
        self.runtime = SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            streamCaptureModeGlobal=0,
            memGetInfo=device.memory.free_and_total,
        )
        self.streams = [Stream(self, 0)]
        numbers = itertools.count(1)
        self.Stream: Any = lambda **options: Stream(self, next(numbers), **options)
        self.Memory = partial(Memory, device.memory)
        self.MemoryPool = partial(MemoryPool, device.memory, self.get_current_stream)
        self.default = self.MemoryPool()
        device.default = self.default.malloc

    def get_current_stream(self) -> Stream:
        return self.streams[-1]

    @contextmanager
    def using_allocator(self, allocator: Any) -> Iterator[None]:
        before, self.device.allocator = self.device.allocator, allocator
        try:
            yield
        finally:
            self.device.allocator = before
