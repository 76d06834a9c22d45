"""The loop over time on a CUDA device: one launch forward and one backward for a packed batch.

Where the weights do not fit on chip it is one launch for each step (``kernels/stepwise.cuh``).

``kernels/elman.cu``, ``gru.cu`` and ``lstm.cu`` compute the two loops of ``backend/tuned/loop.py``
on the same arrays. This module chooses the kernel, how many sequences a block has, and where the
weights are stored.

A block has four threads for each unit, and ``W_hh`` on chip. About half of a thread's registers
hold weights, in *fours* of neighbouring columns of a row; the other fours are in shared memory.
Where that is too small, a cluster of blocks shares the units, from compute capability 9.0 on. Units
that fit, of an LSTM, a GRU and an Elman cell: 96, 120, 192 on 7.5; 128, 144, 256 on 8.0; 112, 128,
192 on 8.6 and 8.9; 384, 448, 768 on an H100; 256, 320, 576 on 12.0. Larger layers, and float64, run
step by step.

The blocks of a cluster hand over their numbers by its barrier, or count bytes (``exchange.cuh``).
Of the two machine codes, that of the barrier has a fence of the whole device in each step, before
which now stand only the stores that it is for; that of counted bytes has none. The barrier is the
default, since it is the plainer of the two, until both are measured against ``stepwise``. None of
these choices is measured yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.cuda.kernel_source import NULL, REALS, Kernels, real_option

#: Of each kind: its source, its number of gates, and its compiler options.
KINDS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "elman_tanh": ("elman.cu", 1, ()),
    "elman_relu": ("elman.cu", 1, ("-DRELU",)),
    "gru": ("gru.cu", 3, ()),
    "lstm": ("lstm.cu", 4, ()),
}
#: The registers of a multiprocessor, and the most that a thread can use.
REGISTERS, REGISTERS_OF_THREAD = 65536, 255
THREADS_OF_BLOCK = 1024
#: How the blocks of a cluster hand their numbers to each other (``kernels/exchange.cuh``); the
#: first is the default. ``stepwise`` is a launch for each step at any size, for comparisons.
TRANSFERS = ("barrier", "async", "stepwise")
#: Bytes of shared memory that two mbarriers take.
MBARRIERS = 16
#: Registers of a thread, beyond half of them, that are not for weights, with one sequence and with
#: four: so it spills none, as compiling shows (``tests/backend/cuda/test_kernels_compile.py``).
BESIDE = {"elman.cu": {1: 8, 4: 8}, "gru.cu": {1: 0, 4: 16}, "lstm.cu": {1: 0, 4: 0}}
#: Bytes of shared memory that a block has without a request.
SHARED_UNASKED = 48 * 1024
#: Blocks of a cluster; 8 is the most that every device with clusters can run.
CLUSTERS = (1, 2, 4, 8)
#: With more blocks of one sequence than this for each multiprocessor, a block has four sequences,
#: and uses each weight four times. Not yet measured.
CROWDED = 2
#: Lanes that share a row of the matrix product: a chunk has 4 columns for each of them.
FORWARD_LANES, BACKWARD_LANES, BACKWARD_TILE = 4, 16, 4
#: For a launch of one step: the side of a tile of sequences and units, and of a block of threads.
STEP_TILE, STEP_SIDE = 32, 16


@dataclass(frozen=True)
class Plan:
    """A compiled variant and its launch.

    ``places`` sequences on each cluster of ``cluster`` blocks, ``threads`` of a block, and its
    bytes of ``shared`` memory forward and backward.
    """

    file: str
    options: tuple[str, ...]
    places: int
    cluster: int
    threads: int
    shared: dict[str, int]

    def fits(self, limits: Limits) -> bool:
        """Whether a device can run it, and without spilling registers.

        Above 512 threads the registers do not hold the sums of four sequences.
        """
        return (
            self.threads <= THREADS_OF_BLOCK // (1 if self.places == 1 else 2)
            and max(self.shared.values()) <= limits.shared
            and (self.cluster == 1 or limits.clusters)
        )


@dataclass(frozen=True)
class Limits:
    """The limits of a device; by default, of compute capability 8.0.

    ``shared`` bytes of a block; whether there are ``clusters``; the number of ``multiprocessors``.
    """

    shared: int = 163 * 1024
    clusters: bool = False
    multiprocessors: int = 108


@lru_cache(maxsize=256)
def plan(
    kind: str, hidden_size: int, places: int, cluster: int = 1, dtype: str = "float32",
    transfer: str = TRANSFERS[0],
) -> Plan:  # fmt: skip
    """The plan for ``places`` sequences (1 or 4) on each cluster of ``cluster`` blocks.

    ``transfer`` is ``"barrier"`` or ``"async"``; one block needs neither.
    """
    file, gates, extra = KINDS[kind]
    threads = 4 * (-(-hidden_size // (8 * cluster)) * 8)
    quarters = -(-threads // 128) * 128  # a warp's registers are in one quarter of the file
    registers = min(REGISTERS_OF_THREAD, REGISTERS // quarters // 8 * 8)
    beside = registers - registers // 2 + BESIDE[file][places]
    sizes = (f"-DHIDDEN={hidden_size}", f"-DPLACES={places}", f"-DCLUSTER={cluster}")
    sends = cluster > 1 and transfer == "async"
    options, shared = [real_option(dtype), *sizes, *extra, *["-DTRANSFER_ASYNC"] * sends], {}
    for name, rows, columns, lanes in (
        ("forward", gates, hidden_size, FORWARD_LANES),
        ("backward", BACKWARD_TILE, gates * hidden_size, BACKWARD_LANES),
    ):
        chunks = -(-columns // (4 * lanes))
        kept = min(chunks * rows, (registers - beside) // 4)
        buffers, spare = 2 * places * 4 * lanes * chunks, 4 * (chunks * rows - kept) * threads
        shared[name] = (buffers + spare) * np.dtype(dtype).itemsize + MBARRIERS * sends
        options.append(f"-D{name.upper()}_KEPT={kept}")
    return Plan(file, tuple(options), places, cluster, threads, shared)


@lru_cache(maxsize=256)
def choose(
    kind: str, hidden_size: int, batch: int, limits: Limits, dtype: str = "float32",
    transfer: str = TRANSFERS[0],
) -> Plan | None:  # fmt: skip
    """The plan for this batch: the smallest cluster that holds the weights.

    None if none does, or with ``transfer="stepwise"``: each step is a launch. Raises
    :class:`ValueError` for a ``transfer`` that is none of :data:`TRANSFERS`.
    """
    if transfer not in TRANSFERS:
        raise ValueError(f"transfer is {transfer!r}; it has to be one of {', '.join(TRANSFERS)}")
    for cluster in CLUSTERS if dtype == "float32" and transfer != "stepwise" else ():
        one, four = (
            plan(kind, hidden_size, places, cluster, transfer=transfer) for places in (1, 4)
        )
        if one.fits(limits):
            crowded = batch * cluster > CROWDED * limits.multiprocessors
            return four if crowded and four.fits(limits) else one
    return None


def supports(kind: str, dtype: Any) -> bool:
    """Whether there are kernels for this cell and dtype."""
    return kind in KINDS and np.dtype(dtype).name in REALS


def step_options(kind: str, hidden_size: int, dtype: Any) -> tuple[str, ...]:
    """The compiler options where each step is a launch."""
    return (real_option(dtype), "-DSTEPWISE", f"-DHIDDEN={hidden_size}", *KINDS[kind][2])


class Device:
    """The limits of a CUDA device, and launches on it.

    ``transfer`` is one of :data:`TRANSFERS`, for all that is launched from then on. A graph that is
    already captured keeps what it was captured with.
    """

    def __init__(self, cupy: Any) -> None:
        self.transfer = TRANSFERS[0]
        device = cupy.cuda.Device()
        attributes = device.attributes
        self.limits = Limits(
            shared=int(attributes["MaxSharedMemoryPerBlockOptin"]),
            clusters=int(device.compute_capability) >= 90,  # "90" is 9.0
            multiprocessors=int(attributes["MultiProcessorCount"]),
        )
        self._kernels = Kernels(cupy)

    def launch(self, chosen: Plan, name: str, blocks: int, arguments: Sequence[Any]) -> None:
        """Launch ``blocks`` blocks of the kernel ``name`` on the current stream."""
        kernel, shared = self._kernels.get(chosen.file, name, *chosen.options), chosen.shared[name]
        if shared > max(SHARED_UNASKED, kernel.max_dynamic_shared_size_bytes):
            kernel.max_dynamic_shared_size_bytes = shared
        kernel((blocks,), (chosen.threads,), tuple(arguments), shared_mem=shared)

    def launch_step(
        self, file: str, options: tuple[str, ...], name: str, grid: tuple[int, int],
        arguments: Sequence[Any],
    ) -> None:  # fmt: skip
        """Launch one step on the current stream."""
        kernel = self._kernels.get(file, name, *options)
        kernel(grid, (STEP_SIDE, STEP_SIDE), tuple(arguments))


_devices: dict[int, Device] = {}


def device_of(xp: Any) -> Device:
    """The current device of CuPy."""
    index = int(xp.cuda.runtime.getDevice())
    if index not in _devices:
        _devices[index] = Device(xp)
    return _devices[index]


def forward(
    xp: Any, kind: str, memory: tuple[Array, ...], w_hh: Array, extra: Array | None,
    initial: tuple[Array, ...] | None, offsets: Array, sizes: Array, batch: int, steps: int,
) -> None:  # fmt: skip
    """Fill ``memory``, whose first array is ``u`` on entry.

    ``w_hh (G H, H)`` and ``u`` have the rows of gates negated (:meth:`TunedCell.scaled`); ``extra``
    is the GRU's ``b_hn (H,)``; ``initial`` are states ``(B, H)``, longest sequence first, or None
    for zeros; ``offsets`` and ``sizes (T,)`` int32 are the first row and the number of rows of each
    step. Further rows of ``hidden`` (and of ``delta`` in :func:`backward`) become zero.
    """
    bias = () if extra is None else (xp.ascontiguousarray(extra),)
    arguments = [
        *_memory(memory), xp.ascontiguousarray(w_hh), *bias,
        *(_given(xp, initial) or [NULL] * (2 if kind == "lstm" else 1)),
        offsets, sizes, np.int32(batch), np.int32(steps),
    ]  # fmt: skip
    _launch(xp, kind, "forward", w_hh, batch, arguments, range(steps))


def backward(
    xp: Any, kind: str, memory: tuple[Array, ...], w_hh: Array, d_hidden: Array | None,
    d: tuple[Array, ...], delta: Array, kept: tuple[Array, ...] | None, offsets: Array,
    sizes: Array, batch: int, steps: int, initial: tuple[Array, ...] | None,
) -> None:  # fmt: skip
    """Fill ``delta (N, deltas H)`` and, where given, ``kept``: ``dL/d`` of each row's states.

    ``w_hh`` is not negated; ``d_hidden (N, H)`` is ``dL/dh`` from the layer above, or None; ``d``
    are ``dL/d`` of the last states ``(B, H)``, longest sequence first. With ``initial`` states they
    become ``dL/d`` of the initial states, in place.
    """
    arguments = [
        *_memory(memory), xp.ascontiguousarray(w_hh),
        NULL if d_hidden is None else xp.ascontiguousarray(d_hidden),
        *_own(d), *_own((delta,)), *(_own(kept) if kept else [NULL] * len(d)),
        offsets, sizes, np.int32(batch), np.int32(steps),
        (_given(xp, initial) or [NULL])[-1],
    ]  # fmt: skip
    to_initial = 0 if initial is None else -1
    _launch(xp, kind, "backward", w_hh, batch, arguments, range(steps - 1, to_initial - 1, -1))


def _launch(
    xp: Any, kind: str, name: str, w_hh: Array, batch: int, arguments: Sequence[Any],
    steps: Iterable[int],
) -> None:  # fmt: skip
    """One launch where the weights fit on chip, else one for each of ``steps``, in this order."""
    device, hidden_size = device_of(xp), w_hh.shape[1]
    chosen = choose(
        kind, hidden_size, batch, device.limits, w_hh.dtype.name, transfer=device.transfer
    )
    if chosen is not None:
        device.launch(chosen, name, -(-batch // chosen.places) * chosen.cluster, arguments)
        return
    options = step_options(kind, hidden_size, w_hh.dtype)
    grid = -(-hidden_size // STEP_TILE), -(-batch // STEP_TILE)
    for t in steps:
        device.launch_step(KINDS[kind][0], options, f"{name}_step", grid, [*arguments, np.int32(t)])


def _memory(memory: tuple[Array, ...]) -> list[Any]:
    """The arrays, and their number of rows, for the stride between gates of ``(G, N, H)``."""
    return [*_own(memory), np.int64(memory[0].shape[-2])]


def _given(xp: Any, arrays: tuple[Array, ...] | None) -> list[Any]:
    return [xp.ascontiguousarray(array) for array in arrays or ()]


def _own(arrays: tuple[Array, ...]) -> list[Array]:
    """Arrays that a kernel writes to, so they must not be copied."""
    if not all(array.flags.c_contiguous for array in arrays):
        raise ValueError("a recurrence has to write to an array that is not contiguous")
    return list(arrays)
