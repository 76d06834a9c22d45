"""Arrays that end where memory ends: a read past the end of one is a segmentation fault."""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Bytes of an array at most, and how many there may be at a time.
ROOM, PLACES = 16 * mmap.PAGESIZE, 64
PROT_NONE = 0


class Guarded:
    """``array(values)`` is a copy that ends at a page that must not be touched; none elsewhere.

    There are :data:`PLACES` of them; :meth:`reset` gives their memory to the next ones.
    """

    def __init__(self) -> None:
        self.taken = 0
        if sys.platform != "linux":
            return
        stride = ROOM + mmap.PAGESIZE
        self.memory = mmap.mmap(-1, PLACES * stride)
        first = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        libc = ctypes.CDLL(None, use_errno=True)
        protect = libc.mprotect
        protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        for place in range(PLACES):
            end = first + place * stride + ROOM
            if protect(end, mmap.PAGESIZE, PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")
        self.ends = [place * stride + ROOM for place in range(PLACES)]

    def array(self, values: Any) -> NDArray[Any]:
        """A contiguous copy of ``values``."""
        plain: NDArray[Any] = np.array(values, order="C")
        if sys.platform != "linux" or plain.nbytes > ROOM or self.taken == PLACES:
            return plain
        start = self.ends[self.taken] - plain.nbytes
        self.taken += 1
        copy = np.frombuffer(self.memory, plain.dtype, plain.size, start).reshape(plain.shape)
        copy[...] = plain
        return copy

    def reset(self) -> None:
        """All arrays so far are done with."""
        self.taken = 0


class Plain:
    """Arrays of the usual sort."""

    array = staticmethod(np.array)
