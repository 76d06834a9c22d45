"""What the real CuPy does, on the pretend device: run by ``test_real_cupy.py`` in a process.

    python -m tests.support.pretend tests/backend/cuda/on_pretend.py

CuPy's answers are its own; those of CUDA are the pretend device's (``tests/support/pretend``).
"""

from __future__ import annotations

import gc
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cupy.cuda import compiler

from npnlp.backend import get_backend
from npnlp.backend.cuda import recurrence
from npnlp.backend.cuda.graphs import Graphs
from npnlp.backend.cuda.kernel_source import kernel_source
from npnlp.cli import main
from tests.backend.cuda.test_kernels_compile import FILES
from tests.support import pretend
from tests.support.cupy_on_shim import declared
from tests.support.pretend import counts

DEVICE: Any = get_backend("cupy")
XP = DEVICE.xp
TARGETS = [*(pytest.param(old, marks=pytest.mark.slow) for old in ("75", "80", "100", "120")), "90"]
#: Of each recurrence, the variant that is compiled, and its kernels; other sources are whole.
OPTIONS = {
    "product.cu": ("-DREAL=float", "-DTILE=64"),
    "elman.cu": recurrence.plan("elman_tanh", 64, 1).options,
    "gru.cu": recurrence.plan("gru", 64, 4).options,
    "lstm.cu": recurrence.step_options("lstm", 1024, "float32"),
}  # fmt: skip
NAMES = {
    "elman.cu": ("forward", "backward"), "gru.cu": ("forward", "backward"),
    "lstm.cu": ("forward_step", "backward_step"),
}  # fmt: skip
ONE, SIXTEEN = 2**20, 2**24


def test_the_device_is_the_pretend_one() -> None:
    assert DEVICE.describe()["device"] == "pretend"
    assert DEVICE.describe()["compute_capability"] == "9.0"
    assert recurrence.device_of(XP).limits == recurrence.Limits(227 * 1024, True, 132)


def own_pool() -> Any:
    """A pool with memory of its own, as captured graphs have."""
    cuda, kept = XP.cuda, []

    def raw(size: int) -> Any:
        kept.append(cuda.Memory(size))
        return cuda.MemoryPointer(kept[-1], 0)

    return cuda.MemoryPool(raw)


@pytest.mark.parametrize("freed", [False, True])
def test_a_dropped_pool_keeps_its_memory_unless_its_blocks_are_freed(freed: bool) -> None:
    """cupy/cuda/memory.pyx of 14.2: a free block and its arena hold each other."""
    gc.collect()
    before, pool = counts()["used"], own_pool()
    pointer = pool.malloc(SIXTEEN)
    assert counts()["used"] == before + SIXTEEN
    del pointer
    if freed:
        pool.free_all_blocks()
    del pool
    gc.collect()
    assert counts()["used"] == before + (0 if freed else SIXTEEN)


def captured(work: Callable[[], Any]) -> Any:
    """The graph of ``work``, which has run before."""
    work()
    stream, pool = XP.cuda.Stream(non_blocking=True), own_pool()
    with stream, XP.cuda.using_allocator(pool.malloc):
        stream.begin_capture()
        try:
            work()
        finally:
            graph = stream.end_capture()
    return graph


#: What CuPy 14.2 refuses in a capture, and where: the file of its source.
REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a number read": (lambda x: float(x[0]), "capturing"),  # cupy/cuda/memory.pyx
    "an array read": (XP.asnumpy, "capturing"),  # cupy/cuda/memory.pyx
    "a decision": (lambda x: bool((x > 0).all()), "capturing"),  # cupy/cuda/memory.pyx
    "a copy from the host": (lambda _: XP.asarray(np.ones(3)), "capturing"),  # cupy/cuda/memory.pyx
    "a product": (lambda x: x.reshape(2, 4) @ x.reshape(4, 2), "capture"),  # libs/cublas.pyx
    "a stack of nine": (lambda x: XP.stack([x] * 9), "capturing"),  # _routines_manipulation.pyx
    "waiting": (lambda _: DEVICE.synchronize(), "StreamCaptureUnsupported"),  # CUDA itself
}
#: What it allows there.
ALLOWED: dict[str, Callable[[Any], Any]] = {
    "arithmetic": lambda x: x * 2 + 1,
    "a sum": lambda x: x.sum(),
    "a stack of eight": lambda x: XP.stack([x] * 8),
    "another dtype": lambda x: x.astype(np.float64),
    "rows by number": lambda x: x.take(XP.arange(3)),
    "more memory than the pool has": lambda _: XP.empty(ONE).fill(1),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_in_a_capture(what: str) -> None:
    work, said = REFUSED[what]
    x, stream = XP.arange(8, dtype=np.float32), XP.cuda.Stream(non_blocking=True)
    work(x)
    with stream:
        stream.begin_capture()
        try:
            with pytest.raises(Exception, match=said):
                work(x)
        finally:
            stream.end_capture()


@pytest.mark.parametrize("what", ALLOWED)
def test_what_is_allowed_in_a_capture(what: str) -> None:
    x = XP.arange(8, dtype=np.float32)
    captured(lambda: ALLOWED[what](x)).launch()


def test_a_graph_does_its_work_at_each_launch_and_only_then() -> None:
    x = XP.zeros(8, dtype=np.float32)

    def work() -> None:
        XP.add(x, XP.ones(8, dtype=np.float32).sum(), out=x)

    graph = captured(work)
    assert x.tolist() == [8.0] * 8
    before = counts()
    for _ in range(3):
        graph.launch()
    after = counts()
    assert x.tolist() == [32.0] * 8
    assert after["graph_launches"] == before["graph_launches"] + 3
    assert after["launches"] > before["launches"]


def test_graphs_capture_on_their_second_call() -> None:
    graphs, x = Graphs(XP), XP.zeros(5, dtype=np.float32)
    before = counts()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            with graphs.in_use():
                graphs.run("a", lambda: XP.add(x, XP.ones(5, dtype=np.float32), out=x))
    assert x.tolist() == [4.0] * 5
    assert len(graphs) == 1
    assert counts()["graph_launches"] == before["graph_launches"] + 3


def test_memory_of_dropped_graphs_comes_back() -> None:
    """20 captured graphs, made and dropped: of CuPy's own pools."""

    def make_and_drop() -> int:
        graphs, x = Graphs(XP), XP.zeros(5, dtype=np.float32)
        for _ in range(3):
            with graphs.in_use():
                graphs.run("a", lambda: XP.add(x, XP.ones(ONE, dtype=np.float32)[:5], out=x))
        assert len(graphs) == 1
        del graphs
        gc.collect()
        return counts()["used"]

    used = [make_and_drop() for _ in range(20)]
    assert used[-1] == used[1]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("file", FILES)
def test_a_module_is_made_by_nvrtc_with_cupys_own_flags(
    file: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the way from ``RawModule`` to machine code, but for loading it."""
    made: list[tuple[bytes, tuple[str, ...]]] = []

    def compiled(source: str, options: tuple[str, ...], *more: Any) -> Any:
        made.append((pretend.nvrtc[0](source, options, *more)[0], options))
        folders = tuple(option for option in options if option.startswith("-I"))
        return pretend.compile_here('extern "C" __global__ void none() {}', folders)

    monkeypatch.setattr(compiler, "_get_arch", lambda: target)
    monkeypatch.setattr(compiler, "_compile_using_nvrtc_no_warning", compiled)
    options = ("-std=c++17", "--ptxas-options=-v", *OPTIONS.get(file, ("-DREAL=float",)))
    log = io.StringIO()
    XP.RawModule(code=kernel_source(file), options=options).compile(log_stream=log)
    ((cubin, flags),) = made
    assert cubin.startswith(b"\x7fELF")
    assert all(name.encode() in cubin for name in NAMES.get(file) or declared(file, ()))
    assert {"-ftz=true", "-std=c++17"} <= set(flags)
    assert set(re.findall(r"(\d+) bytes spill (?:stores|loads)", log.getvalue())) == {"0"}


def small_table(tmp_path: Path) -> Path:
    root = Path(__file__).parents[3]
    frame = pd.read_csv(root / "npnlp/data/surnames.csv", keep_default_na=False)
    path = tmp_path / "small.csv"
    frame.groupby(["nationality", "split"]).head(6).to_csv(path, index=False)
    return path


@pytest.mark.slow
def test_the_main_job_is_numpys(tmp_path: Path) -> None:
    """The command, on a small table: launches of graphs, losses of NumPy's, twice the same bits."""
    table, found, before = small_table(tmp_path), {}, counts()
    for name in ("cupy", "again", "numpy"):
        backend = "numpy" if name == "numpy" else "cupy"
        arguments = ["train", "--quiet", "--backend", backend, "--num-epochs", "2", "--seed", "3",
                     "--batch-size", "16", "--save-dir", str(tmp_path / name),
                     "--surname-csv", str(table)]  # fmt: skip
        assert main(arguments) == 0
        found[name] = pd.read_csv(tmp_path / name / "history.csv")
    after = counts()
    assert after["graphs"] - before["graphs"] >= 4
    assert after["graph_launches"] - before["graph_launches"] >= 10
    for column in ("train_loss", "val_loss", "grad_norm"):
        np.testing.assert_array_equal(found["cupy"][column], found["again"][column])
        np.testing.assert_allclose(found["cupy"][column], found["numpy"][column], rtol=1e-5)
