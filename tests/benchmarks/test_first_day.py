"""benchmarks/first_day.py: where no device is, it refuses; its parts, on the stand-in for one."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pandas as pd
import pytest

from npnlp.backend.cuda.graphs import Graphs
from npnlp.backend.numpy_backend import NumpyBackend
from tests.benchmarks.test_gpu_benchmark import BENCHMARKS, on_cpu, usable
from tests.support.capturing import CapturingBackend
from tests.support.device.cuda import Graph
from tests.support.shim import require_compiler

pytestmark = pytest.mark.usefixtures("passes")


@pytest.mark.skipif(usable(), reason="there is a device")
def test_without_a_device_it_is_one_line_and_status_2_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    out = tmp_path / "day"
    command = [sys.executable, str(BENCHMARKS / "first_day.py"), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("first_day.py: backend cupy: ")
    assert not out.exists()


@pytest.fixture
def device() -> Iterator[CapturingBackend]:
    require_compiler()
    with CapturingBackend().in_place() as backend:
        yield backend


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Any]:
    def day(seconds: float = 60, **options: Any) -> Any:
        from passes.day import Day

        return Day(tmp_path, seconds, **options)

    return day


class Clock:
    """A clock that goes on by what it is told."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time

    def spend(self, seconds: float) -> str:
        self.time += seconds
        return f"{seconds:g} s\nof work"


def test_a_part_that_fails_is_told_and_the_next_goes_on_while_there_is_time(
    make: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from passes.day import LeftOut, Missed, Part

    clock = Clock()
    day = make(100, now=clock)

    def raises(error: Exception) -> Any:
        def call(day: Any) -> str:
            day.table("numbers").append({"left": day.part_left()})
            clock.spend(10)
            raise error

        return call

    passed = day.run([
        Part("first", 0, 50, lambda _: clock.spend(20)),
        Part("broken", 0, 50, raises(ValueError("no\nsuch thing"))),
        Part("wrong", 0, 50, raises(Missed("7 is not 8"))),
        Part("absent", 0, 50, raises(LeftOut("no PyTorch"))),
        Part("long", 51, 99, raises(AssertionError("never begun"))),
        Part("short", 5, 99, lambda _: clock.spend(1)),
    ])  # fmt: skip
    assert not passed
    rows = pd.read_csv(tmp_path / "parts.csv")
    assert list(rows.columns) == ["part", "seconds", "passed", "said"]
    assert rows["passed"].tolist() == ["yes", "no", "no", "left out", "left out", "yes"]
    assert rows["seconds"].tolist() == [20, 10, 10, 10, 0, 1]
    assert rows["said"].tolist() == [
        "20 s of work", "ValueError: no such thing", "7 is not 8", "no PyTorch",
        "50 s are left, and it may take 51", "1 s of work",
    ]  # fmt: skip
    assert "ValueError: no\nsuch thing" in (tmp_path / "log.txt").read_text()
    assert pd.read_csv(tmp_path / "numbers.csv")["left"].tolist() == [50, 50, 50]
    out = capsys.readouterr().out
    assert "[ 20.0 s] yes      first (20.0 s): 20 s" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "log.txt", "numbers.csv", "parts.csv",
    ]  # fmt: skip


def test_only_parts_that_pass_or_are_left_out_are_no_failure(make: Callable[..., Any]) -> None:
    from passes.day import Part

    day = make(10, now=Clock())
    assert day.run([Part("a", 0, 5, lambda _: "ok"), Part("b", 11, 20, lambda _: "never")])
    assert [row["passed"] for row in day.rows] == ["yes", "left out"]


def test_a_part_that_never_ends_is_told_and_ends_the_whole(
    make: Callable[..., Any], tmp_path: Path
) -> None:
    from passes.day import Part

    left, told = Event(), Event()

    def leave(status: int) -> None:
        assert status == 1
        rows = pd.read_csv(tmp_path / "parts.csv")
        assert rows["part"].tolist() == ["first", "hangs"]
        assert rows["passed"].tolist() == ["yes", "no"]
        told.set()
        left.set()

    day = make(60, grace=0.0, leave=leave)
    hangs = Part("hangs", 0, 0.2, lambda _: str(left.wait(120)))
    day.run([Part("first", 0, 30, lambda _: "ok"), hangs])
    assert told.is_set()


def test_a_process_ends_with_the_time_of_its_part(make: Callable[..., Any], tmp_path: Path) -> None:
    from passes.day import Missed

    day = make(1.5)
    begun = time.monotonic()
    code = "import time; print('begun', flush=True); time.sleep(60)"
    with pytest.raises(Missed, match="sleeper: not done after 1 s"):
        day.process("sleeper", [sys.executable, "-c", code])
    assert time.monotonic() - begun < 30
    assert "== sleeper\nbegun" in (tmp_path / "log.txt").read_text()
    with pytest.raises(Missed, match=r"ends: status 3: last words; log\.txt"):
        day.process("ends", [sys.executable, "-c", "print('last words'); raise SystemExit(3)"])


def test_the_device_is_asked_for_a_product_of_matrices(
    device: CapturingBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    from passes.day import Missed
    from passes.day_kernels import cublas_answers

    assert "numpy" in cublas_answers(device)
    monkeypatch.setattr(device.xp, "dot", lambda a, b: device.xp.zeros((2, 2)), raising=False)
    with pytest.raises(Missed, match=r"2 x 3 by 3 x 2 is \[\[0"):
        cublas_answers(device)


def test_recurrences_are_held_against_numpys(
    device: CapturingBackend, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from passes import day_kernels
    from passes.day import Missed

    small = list(day_kernels.of_quick(day_kernels.DESIGN, quick=True))
    day = make()
    said = day_kernels.recurrences(day, device, on_cpu, 0, small, batches=(5,))
    assert said.startswith("6 cases, farthest ")
    for row in day.tables["recurrence"]:
        assert row["farthest"] < 1e-5
        assert row["repeats"]
        on_chip = f"cluster 1, 1 sequences, {64 if row['cell'] == 'gru' else 32} threads"
        assert row["plan"] == ("step by step" if row["transfer"] == "stepwise" else on_chip)
        assert row["ms"] > 0
    late = make(-1)
    with pytest.raises(Missed, match="0 of 0 cases"):
        day_kernels.recurrences(late, device, on_cpu, 0, small, batches=(5,))
    numpys, asarray = NumpyBackend(), NumpyBackend.asarray
    monkeypatch.setattr(
        numpys,
        "asarray",
        lambda host: asarray(numpys, host * host.dtype.type(1 + (host.dtype.kind == "f"))),
    )
    monkeypatch.setattr(day_kernels, "get_backend", lambda name: numpys)
    with pytest.raises(Missed, match="2 of 2 cases are wrong: elman H=8 B=5"):
        day_kernels.recurrences(make(), device, on_cpu, 0, small[:1], batches=(5,))


def test_a_capture_grows_and_memory_is_counted(device: CapturingBackend) -> None:
    from passes.day import Missed
    from passes.day_kernels import SLACK, captured, memory_comes_back
    from passes.gpu_case import Case

    assert captured(device).startswith("a graph replayed")
    case = Case("elman", 3, 2, 8, variable=True)

    def used(scale: int = 1) -> int:
        gc.collect()
        return scale * sum(isinstance(found, Graph) for found in gc.get_objects())

    assert memory_comes_back(device, 0, used, 2, case) == (
        "2 trainers made and dropped: 0.0 MiB more are in use"
    )
    leaked = iter(range(0, 10 * SLACK, SLACK))
    with pytest.raises(Missed, match="64 MiB are gone after 2 trainers"):
        memory_comes_back(device, 0, lambda: next(leaked), 2, case)


def test_a_process_counts_its_graphs(
    device: CapturingBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    from passes.day_child import counting

    monkeypatch.setattr(Graphs, "__init__", Graphs.__init__)
    counts: dict[str, Any] = {"graphs": 0, "launches": 0, "nodes": []}
    counting(counts)
    graphs, x = Graphs(device.xp), device.xp.zeros(3)
    for _ in range(5):
        with graphs.in_use():
            graphs.run("a", lambda: x.fill(2))
    assert counts == {"graphs": 1, "launches": 4, "nodes": []}
    assert device.device.launches == 4
