"""Captured work: what is replayed, what is refused, and the memory that it uses.

On the stand-in and on a device, where CuPy itself has to refuse what the stand-in does.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from npnlp.backend import get_backend
from npnlp.backend.cuda import graphs as module
from npnlp.backend.cuda.graphs import Graphs
from npnlp.errors import DeviceError
from tests.support.capturing import CapturingBackend
from tests.support.device.arrays import COPY_IN, COPY_OUT, CUBLAS
from tests.support.device.cuda import Graph
from tests.support.device.memory import CUDARuntimeError, OutOfMemoryError


@pytest.fixture
def stand_in() -> Iterator[Any]:
    backend = CapturingBackend()
    yield backend.xp
    assert not backend.device.memory.faults


@pytest.fixture(params=["shim", pytest.param("cupy", marks=pytest.mark.gpu)])
def xp(request: pytest.FixtureRequest) -> Any:
    if request.param == "shim":
        return request.getfixturevalue("stand_in")
    try:
        return get_backend("cupy").xp
    except DeviceError as error:
        pytest.skip(str(error))


#: Numbers whose memory shows in what a device says is free.
LARGE = 2**20
#: What must not happen in a capture, with what is said of it, by the file of CuPy 14.2 that does.
FORBIDDEN: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    # cupy/cuda/memory.pyx: copies to the host, of which each reading is one
    "read": (lambda xp, x: float(x[0]), COPY_OUT),
    "truth": (lambda xp, x: bool(x[0] > 1), COPY_OUT),
    "item": (lambda xp, x: x[0].item(), COPY_OUT),
    "copy out": (lambda xp, x: xp.asnumpy(x), COPY_OUT),
    # cupy/_core/_routines_indexing.pyx: sizes that only the device knows
    "mask": (lambda xp, x: x[x > 1], COPY_OUT),
    "places": (lambda xp, x: xp.flatnonzero(x), COPY_OUT),
    "places, too": (lambda xp, x: xp.where(x), COPY_OUT),
    # cupy/cuda/memory.pyx: copies from the host
    "copy in": (lambda xp, x: xp.asarray(np.ones(3)), COPY_IN),
    "list": (lambda xp, x: x[[0, 1]], COPY_IN),
    # cupy/_core/_routines_manipulation.pyx: a table of addresses, made on the host
    "nine stacked": (lambda xp, x: xp._cupy.stack([x] * 9), COPY_IN),
    "nine joined": (lambda xp, x: xp._cupy.concatenate([x] * 9), COPY_IN),
    # cupy_backends/cuda/libs/cublas.pyx
    "cuBLAS": (lambda xp, x: xp._cupy.dot(x[:, None], x[None]), CUBLAS),
    "cuBLAS, too": (lambda xp, x: x[None] @ (x[:, None] + x), CUBLAS),
    "cuBLAS, a batch": (lambda xp, x: x[None, None] @ x[None, :, None], CUBLAS),
    "cuBLAS, a sum": (lambda xp, x: xp.einsum("ij,j->i", x[:, None] + x, x), CUBLAS),
    # CUDA itself
    "wait": (lambda xp, x: xp.cuda.get_current_stream().synchronize(), "CaptureUnsupported"),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_work_that_cannot_be_captured_is_launched_with_a_warning(what: str, xp: Any) -> None:
    graphs, x, total = Graphs(xp), xp.zeros(4) + 2, xp.zeros(())
    breaks, said = FORBIDDEN[what]

    def work() -> None:
        nonlocal total
        total += x.sum()
        breaks(xp, x)

    with graphs.in_use():
        graphs.run("work", work)
        with pytest.warns(RuntimeWarning, match=said):
            graphs.run("work", work)
        graphs.run("work", work)
    assert float(total) == 24
    assert len(graphs) == 0


def test_the_dot_of_two_vectors_is_no_call_of_cublas(xp: Any) -> None:
    """``tensordot_core`` in CuPy's ``_routines_linalg.pyx``: it is a sum of products."""
    graphs, x, found = Graphs(xp), xp.zeros(4) + 2, xp.zeros(())

    def work() -> None:
        found[...] = xp._cupy.dot(x, x) + x[None] @ x

    with graphs.in_use():
        for _ in range(3):
            graphs.run("work", work)
    assert len(graphs) == 1
    assert float(found) == 32


def test_an_interrupt_in_a_capture_ends_it(xp: Any) -> None:
    graphs, times = Graphs(xp), iter([None, KeyboardInterrupt])

    def work() -> None:
        if (error := next(times)) is not None:
            raise error

    with graphs.in_use():
        graphs.run("work", work)
        with pytest.raises(KeyboardInterrupt):
            graphs.run("work", work)
    assert float(xp.zeros(())) == 0  # nothing is captured any more
    assert gc.isenabled()


def test_a_capture_that_fails_at_its_end_falls_back(
    stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``end_capture`` makes the graph executable, too (CuPy's ``cuda/graph.pyx``)."""

    def fails(*given: Any) -> None:
        raise CUDARuntimeError(2)

    monkeypatch.setattr(Graph, "from_stream", fails)
    graphs, total = Graphs(stand_in), stand_in.zeros(())

    def work() -> None:
        nonlocal total
        total += 1

    with graphs.in_use():
        graphs.run("work", work)
        with pytest.warns(RuntimeWarning, match="not captured .* out of memory"):
            graphs.run("work", work)
        graphs.run("work", work)
    assert float(total) == 3
    assert len(graphs) == 0
    assert gc.isenabled()


def test_the_default_stream_is_not_captured(xp: Any) -> None:
    """``begin_capture`` in CuPy's ``cuda/stream.pyx``."""
    with pytest.raises(RuntimeError, match="cannot capture on the default"):
        xp.cuda.get_current_stream().begin_capture()


def test_what_cannot_be_captured_is_multiplied_by_cublas(xp: Any) -> None:
    """Our own products serve captured work, and the launch before it, which has its bits."""
    asked: list[bool] = []
    graphs, x = Graphs(xp), xp.zeros((3, 3), np.float32) + 1

    def work() -> None:
        asked.append(xp._own)
        assert xp.capturable  # no number is read, however it is launched
        xp.dot(x, x)
        if len(asked) == 2:
            raise ValueError("cannot be captured")

    with graphs.in_use():
        graphs.run("work", work)
        with pytest.warns(RuntimeWarning, match="cannot be captured"):
            graphs.run("work", work)
        graphs.run("work", work)
    assert asked == [True, True, False, False]
    assert not xp.capturable


def test_a_graph_does_the_work_again_and_only_when_launched(xp: Any) -> None:
    graphs, x, y = Graphs(xp), xp.zeros(3) + 1, xp.zeros(3)
    calls = []

    def work() -> None:
        calls.append(1)
        y[...] = y + (x * 2)[::-1]
        y[1:2] = 0

    with graphs.in_use():
        for times in range(1, 6):
            graphs.run(("a", 1), work)
            assert y.tolist() == [2.0 * times, 0, 2.0 * times]
        x.fill(5)
        graphs.run(("a", 1), work)
    assert y.tolist() == [20, 0, 20]
    assert len(calls) == 2
    assert len(graphs) == 1


def test_memory_from_elsewhere_is_refused_in_a_capture(stand_in: Any) -> None:
    """By the stand-in alone: CuPy takes it, and then others may use it while the graph runs."""
    stream = stand_in.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with pytest.raises(RuntimeError, match="outside of the graphs' pool"):
            stand_in.zeros(3)
        stream.end_capture()


def test_a_pool_grows_in_a_capture_of_cupys_mode_and_in_no_other(stand_in: Any) -> None:
    """``begin_capture`` in CuPy's ``cuda/stream.pyx`` takes the relaxed mode for this."""
    stream, pool = stand_in.cuda.Stream(non_blocking=True), stand_in.cuda.MemoryPool()
    with stream, stand_in.cuda.using_allocator(pool.malloc):
        stream.begin_capture(stand_in.cuda.runtime.streamCaptureModeGlobal)
        with pytest.raises(CUDARuntimeError, match="StreamCaptureUnsupported"):
            stand_in.zeros(3)
        stream.end_capture()
        stream.begin_capture()
        stand_in.zeros(3)
        stream.end_capture()
    assert pool.total_bytes() == 512
    assert stand_in.device.memory.mallocs_in_capture == 1


def test_memory_that_a_pool_gives_up_in_a_capture_is_a_fault() -> None:
    device = CapturingBackend()
    cuda, pool = device.xp.cuda, device.xp.cuda.MemoryPool()
    stream = cuda.Stream(non_blocking=True)
    with stream, cuda.using_allocator(pool.malloc):
        device.xp.zeros(3)
        stream.begin_capture()
        pool.free_all_blocks()
        stream.end_capture()
    assert device.device.memory.faults == ["memory was freed in a capture"]


@pytest.mark.parametrize("count", [2, 8, 9, 20, 64, 70])
def test_any_number_of_arrays_is_joined_in_a_capture(xp: Any, count: int) -> None:
    graphs, parts = Graphs(xp), [xp.zeros((2, 3)) + n for n in range(count)]
    stacked, joined, turned = xp.zeros((count, 2, 3)), xp.zeros((2, 3 * count)), xp.zeros(0)

    def work() -> None:
        nonlocal turned
        stacked[...] = xp.stack(tuple(parts))
        joined[...] = xp.concatenate(parts, axis=1)
        turned = xp.stack(parts, axis=-1).shape

    with graphs.in_use():
        for _ in range(3):
            stacked.fill(0)
            graphs.run("join", work)
    assert len(graphs) == 1
    plain = [np.full((2, 3), float(n)) for n in range(count)]
    assert stacked.tolist() == np.stack(plain).tolist()
    assert joined.tolist() == np.concatenate(plain, axis=1).tolist()
    assert turned == (2, 3, count)


def test_no_garbage_is_collected_in_a_capture(xp: Any) -> None:
    """An old trainer among it would return its memory there."""
    seen: list[bool] = []
    graphs = Graphs(xp)
    with graphs.in_use():
        for _ in range(2):
            graphs.run("work", lambda: seen.append(gc.isenabled()))
    assert seen == [True, False]
    assert gc.isenabled()


def used(xp: Any) -> int:
    """Bytes of the device, beside those that CuPy's default pool keeps for later arrays."""
    xp.get_default_memory_pool().free_all_blocks()
    free, total = xp.cuda.runtime.memGetInfo()
    return int(total - free)


def captured(xp: Any, size: int = 1000) -> tuple[Graphs, Any]:
    """Graphs that have captured work on as many numbers, and the numbers."""
    graphs, x = Graphs(xp), xp.zeros(size)

    def work() -> None:
        x[...] = (x + 1) * 2 - x

    with graphs.in_use():
        for _ in range(3):
            graphs.run(size, work)
    assert len(graphs) == 1
    return graphs, x


def test_graphs_that_are_dropped_return_their_memory_at_once(xp: Any) -> None:
    captured(xp, LARGE)  # on a device, code takes memory too
    before, gone = used(xp), []
    gc.disable()
    try:
        for size in (LARGE, 2 * LARGE, LARGE // 2):
            graphs, numbers = captured(xp, size)
            assert used(xp) >= before + 2 * numbers.nbytes
            gone.append(weakref.ref(graphs))
            del graphs, numbers
            assert used(xp) == before
    finally:
        gc.enable()
    assert [graphs() for graphs in gone] == [None] * 3


def test_a_pool_that_is_only_dropped_keeps_its_memory(
    xp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In CuPy 14.2 (``cuda/memory.pyx``, ``_Arena`` and ``_Chunk``), and so on the stand-in."""
    monkeypatch.setattr(module, "_give_back", lambda graphs, pool: None)
    gc.collect()
    before = used(xp)
    captured(xp, LARGE)
    gc.collect()
    assert used(xp) > before


def test_memory_is_returned_after_the_graphs_that_use_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_give_back", lambda graphs, pool: pool.free_all_blocks())
    backend = CapturingBackend()
    captured(backend.xp)
    assert set(backend.device.memory.faults) == {"memory of a graph was freed before the graph"}


@pytest.mark.parametrize("refused", [1, 2, 3])
def test_out_of_memory_there_are_three_tries(
    xp: Any, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    """After the first the default pool gives back, after the second the graphs, too."""
    (graphs, _numbers), memory, left = captured(xp), xp.cuda.Memory, [refused]

    def scarce(size: int) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise xp.cuda.runtime.CUDARuntimeError(2)
        return memory(size)

    monkeypatch.setattr(xp.cuda, "Memory", scarce)
    kept = graphs._pool.total_bytes()
    with graphs.in_use():
        if refused == 3:
            with pytest.raises(MemoryError, match="Out of memory allocating"):
                graphs.run("large", lambda: xp.zeros(LARGE))
        else:
            graphs.run("large", lambda: xp.zeros(LARGE))
    assert len(graphs) == (1 if refused == 1 else 0)
    large = 0 if refused == 3 else 8 * LARGE
    assert graphs._pool.total_bytes() == (kept if refused == 1 else 0) + large


def test_out_of_memory_the_default_pool_gives_back_what_is_free(stand_in: Any) -> None:
    memory, (graphs, numbers) = stand_in.device.memory, captured(stand_in)
    stand_in.zeros(10**6)  # is free again, and stays with the pool
    memory.capacity = memory.used + 100_000
    with graphs.in_use():
        graphs.run("large", lambda: stand_in.zeros(10**5))
    assert len(graphs) == 1  # what was captured still is
    with graphs.in_use():
        graphs.run(numbers.size, lambda: None)


def test_out_of_memory_graphs_are_given_up_and_captured_anew(stand_in: Any) -> None:
    memory, graphs, x = stand_in.device.memory, Graphs(stand_in), stand_in.zeros(1000)
    total = stand_in.zeros(())

    def work(size: int) -> None:
        nonlocal total
        total += (stand_in.zeros(size) + 1).sum()

    with graphs.in_use():
        for _ in range(3):
            graphs.run("small", lambda: work(10_000))
        used(stand_in)
        memory.capacity = memory.used + 100_000
        graphs.run("large", lambda: work(15_000))  # fits into no block that is there
        assert len(graphs) == 0
        for _ in range(2):
            graphs.run("large", lambda: work(15_000))
        for _ in range(3):
            graphs.run("small", lambda: work(10_000))
    assert len(graphs) == 2
    assert float(total) == 6 * 10_000 + 3 * 15_000
    assert float(x.sum()) == 0


def test_out_of_memory_that_nothing_helps_is_cupys_error(stand_in: Any) -> None:
    graphs, _numbers = captured(stand_in)
    stand_in.device.memory.capacity = 10**6
    with graphs.in_use(), pytest.raises(OutOfMemoryError, match="Out of memory allocating"):
        graphs.run("large", lambda: stand_in.zeros(10**6))


def test_out_of_memory_in_a_capture_frees_nothing_and_falls_back(stand_in: Any) -> None:
    memory, graphs, sizes = stand_in.device.memory, Graphs(stand_in), iter([10, 10**5, 10**5])
    stand_in.zeros(10**5)

    def work() -> None:
        stand_in.zeros(next(sizes))

    with graphs.in_use():
        graphs.run("grows", work)
        memory.capacity = memory.used
        with pytest.warns(RuntimeWarning, match="Out of memory allocating"):
            graphs.run("grows", work)
    assert next(sizes, None) is None
    assert not memory.faults


def test_at_a_limit_cupy_frees_no_memory_of_graphs(
    xp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``_try_malloc`` of its pools would, before it asks for memory."""
    monkeypatch.setenv("CUPY_GPU_MEMORY_LIMIT", "50000")
    graphs, numbers = captured(xp)
    before, kept = used(xp), graphs._pool.total_bytes()
    with graphs.in_use(), suppress(MemoryError):
        graphs.run("large", lambda: xp.zeros(10**5))
    assert used(xp) >= before
    assert graphs._pool.total_bytes() >= kept
    with graphs.in_use():
        graphs.run(numbers.size, lambda: None)
    assert len(graphs) == 1


def test_the_limit_of_cupys_pool_holds_for_both(xp: Any) -> None:
    default = xp.get_default_memory_pool()
    default.free_all_blocks()
    default.set_limit(size=default.total_bytes() + 100_000)
    graphs, _numbers = captured(xp)
    with graphs.in_use():
        with pytest.raises(MemoryError, match="limit set to"):
            graphs.run("large", lambda: xp.zeros(10**5))
        for _ in range(3):
            graphs.run("small", lambda: xp.zeros(10))
    assert len(graphs) == 1
    default.set_limit(size=0)


@pytest.mark.parametrize(
    ("indices", "below"),
    [([0, 2], True), ([0, 3], False), ([-1, 0], False), ([], True), ([-(2**62)], False)],
)
@pytest.mark.parametrize("kind", ["int64", "int8"])
def test_indices_are_looked_at_in_one_read_and_in_a_captured_step_not_at_all(
    indices: list[int], below: bool, kind: str
) -> None:
    device = CapturingBackend()
    given = device.asarray(np.array(indices).clip(-100, None).astype(kind))
    assert device.all_below(given, 3) is below
    assert device.device.reads == ["int"] * bool(indices)
    device.device.reads.clear()
    with device.xp.own_products():
        assert device.all_below(given, 3)
    assert device.device.reads == []
