"""Device memory and CuPy's pools of it.

As in ``cupy/cuda/memory.pyx`` of CuPy 14.2.0: a :class:`MemoryPool` splits a block for a smaller
array and takes it back into the *arena* of its stream when the array dies; it asks the device for
more only where no block fits, and returns memory only in ``free_all_blocks``. A free block and its
arena hold each other, in C++, where Python's collector of garbage does not look: a pool that is
dropped keeps its memory for the life of the process.
"""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

UNIT = 512  # bytes; ``ALLOCATION_UNIT_SIZE``
#: What nobody has written: as a floating-point number it is not one, as an index there is none.
POISON = np.uint32(0x7FFFFFFF)
OUT_OF_MEMORY, CAPTURE_UNSUPPORTED = 2, 900
FULL = "cudaErrorMemoryAllocation: out of memory"


class CUDARuntimeError(RuntimeError):
    """As ``cupy_backends/cuda/api/runtime.pyx`` raises it."""

    def __init__(self, status: int, what: str = FULL) -> None:
        super().__init__(what)
        self.status = status


class OutOfMemoryError(MemoryError):
    """As ``cupy/cuda/memory.pyx`` raises it."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        said = f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes"
        super().__init__(said + (f", limit set to: {limit:,} bytes)." if limit else ")."))


class DeviceMemory:
    """How much of a device is used; ``capacity`` is all of it."""

    def __init__(self) -> None:
        self.capacity, self.used = 2**40, 0
        #: How often memory was taken from the device, and how often while a stream was captured.
        self.mallocs = self.mallocs_in_capture = 0
        #: What a device would have taken badly, and no exception could say.
        self.faults: list[str] = []
        self.mode = ""  # of the capture that is under way
        self.graphs: weakref.WeakSet[Any] = weakref.WeakSet()
        #: What C++ holds: the free blocks of all arenas, and those with neighbours.
        self.held: set[Chunk] = set()

    def free_and_total(self) -> tuple[int, int]:
        """``memGetInfo``."""
        return self.capacity - self.used, self.capacity

    def malloc(self, size: int) -> None:
        """``cudaMalloc``. A capture in another mode than the relaxed one does not allow it."""
        if self.mode not in ("", "relaxed"):
            raise CUDARuntimeError(CAPTURE_UNSUPPORTED, "cudaErrorStreamCaptureUnsupported")
        if self.used + size > self.capacity:
            raise CUDARuntimeError(OUT_OF_MEMORY)
        self.used += size
        self.mallocs += 1
        self.mallocs_in_capture += bool(self.mode)

    def free(self, memory: Memory) -> None:
        """``cudaFree``, which waits for the device."""
        self.used -= memory.size
        memory.freed = True
        if self.mode:
            self.faults.append("memory was freed in a capture")
        for graph in self.graphs:
            if memory.address in graph.memory:
                graph.broken = True
                self.faults.append("memory of a graph was freed before the graph")

    def poison(self) -> None:
        """Overwrite all that is free."""
        for chunk in self.held:
            if chunk.arena is not None and chunk in chunk.arena.free:
                chunk.poison()


class Memory:
    """``cupy.cuda.Memory``: bytes of the device as long as it lives."""

    def __init__(self, device: DeviceMemory, size: int) -> None:
        self.size, self.device, self.freed = 0, device, False
        device.malloc(size)
        self.size = size
        self.storage = np.full(-(-size // 4), POISON).view(np.uint8)[:size]
        self.address = self.storage.__array_interface__["data"][0]

    def __del__(self) -> None:
        if self.size:
            self.device.free(self)


class MemoryPointer:
    """``cupy.cuda.MemoryPointer``: a place in memory, which it keeps."""

    def __init__(self, mem: Any, offset: int) -> None:
        self.mem, self.offset = mem, offset

    @property
    def memory(self) -> Memory:
        """The memory of the device itself."""
        found: Memory = self.mem.chunk.mem if isinstance(self.mem, PooledMemory) else self.mem
        return found

    def array(self, shape: tuple[int, ...], dtype: Any, strides: Any) -> np.ndarray:
        """An array here."""
        offset = self.offset
        if isinstance(self.mem, PooledMemory):
            offset += self.mem.chunk.offset
        return np.ndarray(shape, dtype, self.memory.storage, offset, strides)


class Chunk:
    """``_Chunk``: a part of a block; ``prev`` and ``next`` are the parts beside it."""

    def __init__(self, mem: Memory, offset: int, size: int, arena: Arena | None) -> None:
        self.mem, self.offset, self.size, self.arena = mem, offset, size, arena
        self.prev: Chunk | None = None
        self.next: Chunk | None = None

    def poison(self) -> None:
        """Overwrite it."""
        self.mem.storage[self.offset : self.offset + self.size].view(np.uint32)[...] = POISON

    def split(self, size: int) -> Chunk | None:
        """Keep ``size`` bytes; the rest."""
        if self.size == size:
            return None
        rest = Chunk(self.mem, self.offset + size, self.size - size, self.arena)
        rest.prev, rest.next, self.next, self.size = self, self.next, rest, size
        if rest.next is not None:
            rest.next.prev = rest
        return rest

    def merge_next(self) -> None:
        """Take the part behind."""
        taken = self.next
        assert taken is not None
        self.size, self.next = self.size + taken.size, taken.next
        if self.next is not None:
            self.next.prev = self
        taken.next = taken.prev = None
        self.mem.device.held.discard(taken)


class Arena:
    """``_Arena``: the free blocks of one stream."""

    def __init__(self, device: DeviceMemory) -> None:
        self.device = device
        self.free: set[Chunk] = set()

    def insert(self, chunk: Chunk) -> None:
        """Take a block back, and join it with free ones beside it."""
        while chunk.next is not None and chunk.next in self.free:
            self.free.discard(chunk.next)
            chunk.merge_next()
        while chunk.prev is not None and chunk.prev in self.free:
            chunk = chunk.prev
            self.free.discard(chunk)
            chunk.merge_next()
        self.free.add(chunk)
        self.device.held.add(chunk)

    def get(self, size: int) -> Chunk | None:
        """The smallest block that is large enough."""
        found = min(
            (chunk for chunk in self.free if chunk.size >= size),
            key=lambda chunk: (chunk.size, chunk.mem.address + chunk.offset), default=None,
        )  # fmt: skip
        if found is not None:
            self._take(found)
            if (rest := found.split(size)) is not None:
                self.free.add(rest)
                self.device.held |= {rest, found}
        return found

    def free_all(self) -> int:
        """Let go of all blocks but those of which a part is in use; how many bytes."""
        whole = [chunk for chunk in self.free if chunk.prev is None and chunk.next is None]
        for chunk in whole:
            self._take(chunk)
            chunk.arena = None
        return sum(chunk.size for chunk in whole)

    def _take(self, chunk: Chunk) -> None:
        self.free.discard(chunk)
        if chunk.prev is None and chunk.next is None:
            self.device.held.discard(chunk)


class PooledMemory:
    """``PooledMemory``: memory of a pool, which goes back there when it dies."""

    def __init__(self, chunk: Chunk, pool: weakref.ref[MemoryPool]) -> None:
        self.chunk, self.pool = chunk, pool

    def __del__(self) -> None:
        if (pool := self.pool()) is not None:
            pool.take_back(self.chunk)


class MemoryPool:
    """``cupy.cuda.MemoryPool``, of one device; ``stream`` gives the current one."""

    def __init__(
        self, device: DeviceMemory, stream: Callable[[], Any], allocator: Any = None
    ) -> None:
        self._device, self._stream = device, stream
        self._limit = int(os.environ.get("CUPY_GPU_MEMORY_LIMIT", 0))  # _parse_limit_string
        self._allocator = allocator or (lambda size: MemoryPointer(Memory(device, size), 0))
        self._arenas: dict[int, weakref.ref[Arena]] = {}
        self._total = self._used = 0

    def malloc(self, size: int) -> MemoryPointer:
        """Memory for an array."""
        if not size:
            return MemoryPointer(Memory(self._device, 0), 0)
        size = -(-size // UNIT) * UNIT
        arena = self._arena()
        chunk = arena.get(size) or Chunk(self._more(size), 0, size, arena)
        self._used += chunk.size
        return MemoryPointer(PooledMemory(chunk, weakref.ref(self)), 0)

    def _arena(self) -> Arena:
        key = self._stream().ptr
        arena = self._arenas[key]() if key in self._arenas else None
        if arena is None:
            arena = Arena(self._device)
            self._arenas[key] = weakref.ref(arena)
        return arena

    def _more(self, size: int) -> Memory:
        """``_try_malloc``: before it gives up, it frees, and has garbage collected."""
        for give_up in (self.free_all_blocks, gc.collect, None):
            if not self._limit or self._total + size <= self._limit:
                self._total += size
                try:
                    found: Memory = self._allocator(size).mem
                    return found
                except BaseException as error:
                    self._total -= size
                    full = isinstance(error, CUDARuntimeError) and error.status == OUT_OF_MEMORY
                    if not full:
                        raise
            if give_up is not None:
                give_up()
                self.free_all_blocks()
        raise OutOfMemoryError(size, self._total, self._limit)

    def take_back(self, chunk: Chunk) -> None:
        """What was an array's is free."""
        self._used -= chunk.size
        assert chunk.arena is not None
        if not self._device.mode:
            chunk.poison()
        chunk.arena.insert(chunk)

    def free_all_blocks(self, stream: Any = None) -> None:
        """Return what is free to the device."""
        for key, known in list(self._arenas.items()):
            if (arena := known()) is not None and (stream is None or stream.ptr == key):
                self._total -= arena.free_all()

    def set_limit(self, size: int) -> None:
        """No more than ``size`` bytes; 0 for as many as there are."""
        self._limit = size

    def get_limit(self) -> int:
        """The largest number of bytes, or 0."""
        return self._limit

    def used_bytes(self) -> int:
        """Bytes of arrays."""
        return self._used

    def total_bytes(self) -> int:
        """Bytes of the device."""
        return self._total
