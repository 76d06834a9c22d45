"""benchmarks/gpu.py where no device is: it refuses; its parts work on the CPU all the same."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from npnlp.backend import get_backend
from npnlp.errors import DeviceError
from tests.support.capturing import CapturingBackend
from tests.support.shim import require_compiler

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PASSES = ("forward", "both", "step")


def usable() -> bool:
    try:
        get_backend("cupy")
    except DeviceError:
        return False
    return True


@pytest.mark.skipif(usable(), reason="there is a device")
def test_without_a_device_it_is_one_line_and_status_2_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--quick", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("gpu.py: backend cupy: ")
    assert not out.exists()


@pytest.mark.usefixtures("passes")
@pytest.mark.parametrize("variable", [False, True])
def test_a_case_holds_the_same_tokens_however_it_is_read(variable: bool) -> None:
    from passes.gpu_case import Case, packed_tokens

    split = Case("gru", 5, 4, 3, variable).split(1)
    assert split.lengths.max() == 5
    assert (len(set(split.lengths.tolist())) > 1) is variable
    tokens, sizes = packed_tokens(split)
    assert sizes.sum() == len(tokens) == split.lengths.sum()
    names = [split.tokens[s:][:n] for s, n in zip(split.starts, split.lengths, strict=True)]
    by_steps = [name[t] for t in range(5) for name in names if len(name) > t]
    assert tokens.tolist() == by_steps


def on_cpu(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - started)


@pytest.mark.usefixtures("passes")
@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_rows_are_measured_and_drawn(cell: str, tmp_path: Path) -> None:
    import gpu
    from passes.gpu_case import Case
    from passes.gpu_floor import Rates
    from passes.gpu_ours import our_way
    from passes.gpu_picture import draw

    from npnlp.files import write_csv

    def full() -> Any:
        raise MemoryError("Out of memory allocating 1 bytes")

    case = Case(cell, 4, 3, 8, variable=False)
    makers = iter([("ours", lambda: our_way(case, 0, get_backend("numpy"))), ("full", full)])
    rates = Rates(bandwidth=1e12, operations=1e13, barrier=1e-8)
    rows = list(gpu.rows_of(case, 0, makers, on_cpu, 2, rates))
    assert [row["pass"] for row in rows] == list(PASSES)
    assert {row["way"] for row in rows} == {"ours"}
    for row in rows:
        assert row["ms_q25"] <= row["ms"] <= row["ms_q75"]
        assert row["over_floor"] == row["ms"] / row["floor_ms"] > 0
    write_csv(tmp_path / "gpu.csv", rows)
    draw(tmp_path / "gpu.csv", tmp_path / "gpu.png", PASSES)
    assert (tmp_path / "gpu.png").read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(tmp_path / "gpu.csv")) == len(PASSES)


@pytest.mark.usefixtures("passes")
def test_the_captured_step_is_the_trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the end of an epoch; and a model whose steps are not captured is left out."""
    import gpu
    from passes import gpu_ours
    from passes.gpu_case import Case
    from passes.gpu_floor import Rates

    require_compiler()
    monkeypatch.setattr(gpu_ours, "EPOCH", 3)
    case = Case("elman", 4, 3, 8, variable=True)
    rates = Rates(bandwidth=1e12, operations=1e13, barrier=1e-8)
    with CapturingBackend().in_place() as backend:
        step = gpu_ours.our_captured_way(case, 0, backend)["step"]
        backend.device.reads.clear()
        for _ in range(5):
            step()
        assert backend.device.launches == 4
        assert not backend.device.reads
    makers = iter([("graph", lambda: gpu_ours.our_captured_way(case, 0, get_backend("numpy")))])
    assert list(gpu.rows_of(case, 0, makers, on_cpu, 1, rates)) == []


@pytest.mark.usefixtures("passes")
def test_a_step_is_measured_on_its_stream_and_entering_that_is_not() -> None:
    from passes.gpu_case import Inside, event_clock

    done: list[str] = []

    class Event:
        record = staticmethod(lambda: done.append("event"))
        synchronize = staticmethod(lambda: done.append("wait"))

    @contextmanager
    def stream() -> Iterator[None]:
        done.append("enter")
        yield
        done.append("leave")

    cuda = SimpleNamespace(Event=Event, get_elapsed_time=lambda first, last: 0.5)
    backend: Any = SimpleNamespace(
        xp=SimpleNamespace(cuda=cuda), synchronize=lambda: done.append("idle")
    )
    clock, step = event_clock(backend), Inside(lambda: done.append("step"), stream)
    measured = ["idle", "event", "step", "event", "wait"]
    assert clock(step) == 0.5
    assert done == ["enter", *measured, "leave"]
    done.clear()
    assert clock(step.call) == 0.5
    assert done == measured
    done.clear()
    step()
    assert done == ["enter", "step", "leave"]


@pytest.mark.usefixtures("passes")
def test_the_floor_grows_with_what_it_is_made_of() -> None:
    from passes.gpu_case import Case
    from passes.gpu_floor import Rates, floor_ms

    rates, case = Rates(1e12, 1e13, 1e-7), Case("lstm", 10, 8, 64, variable=False)
    at_least = 1e3 * 10 * 1e-7
    assert floor_ms(case, 0, "forward", rates) > at_least
    assert floor_ms(case, 0, "both", rates) > 2 * at_least
    assert floor_ms(case, 0, "step", rates) == floor_ms(case, 0, "both", rates)
    longer = Case("lstm", 20, 8, 64, variable=False)
    assert floor_ms(longer, 0, "forward", rates) > floor_ms(case, 0, "forward", rates)
    free = Rates(float("inf"), float("inf"), 1e-7)
    assert floor_ms(case, 0, "forward", free) == pytest.approx(at_least)


@pytest.mark.peers
@pytest.mark.usefixtures("passes")
@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
@pytest.mark.parametrize("variable", [False, True])
@pytest.mark.parametrize("loop", [False, True])
def test_pytorch_computes_what_we_do(cell: str, variable: bool, loop: bool) -> None:
    torch = pytest.importorskip("torch")
    from passes.gpu_case import Case
    from passes.gpu_ours import our_way
    from passes.gpu_torch import Parts, torch_way

    case = Case(cell, 6, 5, 8, variable)
    (_, last, *_), _ = our_way(case, 2, get_backend("numpy"))["forward"]()
    parts = Parts(case, 2, "cpu", loop)
    np.testing.assert_allclose(parts.forward().detach().numpy(), last, rtol=1e-4, atol=1e-6)
    before = [weight.detach().clone() for weight in parts.weights]
    parts.both()
    assert parts.table.grad is not None
    parts.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, parts.weights, strict=True))
    for call in torch_way(case, 2, "cpu", loop=loop, with_tf32=False).values():
        call()
