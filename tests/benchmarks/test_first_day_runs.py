"""benchmarks/first_day.py: what it makes of other processes, and of PyTorch's times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.test_gpu_benchmark import usable

pytestmark = pytest.mark.usefixtures("passes")


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Any]:
    def day(seconds: float = 60, **options: Any) -> Any:
        from passes.day import Day

        return Day(tmp_path, seconds, **options)

    return day


def test_the_main_job_is_run_and_compared(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from passes import day_runs
    from passes.day import Missed

    day = make()
    found = day_runs.train(day, "one", "numpy", 1, 3, "--rnn-hidden-size", "8")
    ((row,),) = found["histories"]
    assert float(row["train_loss"]) > 0
    assert (found["graphs"], found["launches"]) == (0, 0)
    assert found["seconds"] > 0

    def runs(cold: float, warm: float, numpy: float, launches: int = 9) -> Any:
        losses = {"cold": cold, "warm": warm, "numpy": numpy}

        def train(day: Any, name: str, *_: Any) -> Any:
            history = row | dict.fromkeys(day_runs.COMPARED, str(losses[name]))
            return found | {"histories": [[history]], "launches": launches, "nodes": [62, 9]}

        monkeypatch.setattr(day_runs, "train", train)
        return day_runs.main_job(make(), 1, 0)

    said = runs(1.0, 1.0, 1.00005)
    assert "9 launches of 0 graphs of up to 62 nodes" in said
    assert "the same bits twice: True; farthest from NumPy's in the first epoch 5.0e-05" in said
    for wrong in ((1.0, 1.0000001, 1.0), (1.0, 1.0, 1.001), (1.0, 1.0, 1.0, 0), (1, 1, 1e999)):
        with pytest.raises(Missed):
            runs(*wrong)


def test_ratios_are_held_against_their_bounds(make: Callable[..., Any]) -> None:
    from passes.day import Missed
    from passes.day_torch import OURS, against_torch

    def clock(call: Callable[[], Any]) -> float:
        return float(call())

    def made(eager: float, graph: float, variable: float) -> Any:
        def ways(case: Any, seed: int, backend: Any) -> Any:
            yield OURS, lambda: {"step": lambda: 1.0}
            eagerly = variable if case.variable else eager
            yield "torch, eager", lambda: {"step": lambda: eagerly}
            if not case.variable:
                yield "torch, graph", lambda: {"step": lambda: graph}

        return ways

    day = make()
    said = against_torch(day, None, clock, 0, 3, made(6, 2.5, 9))  # type: ignore[arg-type]
    assert said == (
        "torch, eager, padded 6.00 times ours (bound 5); torch, graph, padded 2.50 times ours "
        "(bound 2); torch, eager, variable length 9.00 times ours (bound 5)"
    )
    assert [row["over_ours"] for row in day.tables["against_torch"]] == [1, 6, 2.5, 1, 9]
    for low in ((4, 3, 9), (6, 1, 9), (6, 3, 4)):
        with pytest.raises(Missed, match="times ours"):
            against_torch(make(), None, clock, 0, 3, made(*low))  # type: ignore[arg-type]


def test_without_pytorch_on_a_device_that_part_is_left_out(make: Callable[..., Any]) -> None:
    from passes.day import LeftOut
    from passes.day_torch import require_torch

    if not usable():
        with pytest.raises(LeftOut, match="PyTorch"):
            require_torch()


def test_seeds_at_once_are_held_against_one(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from passes import day_runs
    from passes.day import Missed

    def runs(of_one: float, *of_many: float) -> Any:
        def train(day: Any, name: str, *_: Any) -> Any:
            epochs = [of_one] if name == "one seed" else of_many
            rows = [[{"seconds": "9"}, {"seconds": f"{taken}"}] for taken in epochs]
            return {"histories": rows, "seconds": 12.0}

        monkeypatch.setattr(day_runs, "train", train)
        return day_runs.many_seeds(make(), 3, 2, 0)

    assert "3 seeds 0.700 s, one 0.200 s: 3.50 times (bound 4)" in runs(0.2, 0.7, 0.7, 0.7)
    with pytest.raises(Missed, match=r"4\.50 times"):
        runs(0.2, 0.9, 0.9, 0.9)
    with pytest.raises(Missed, match=r"6\.00 times"):  # one after another
        runs(0.2, 0.3, 0.4, 0.5)
    with pytest.raises(Missed, match="2 of 3 seeds have a history"):
        runs(0.2, 0.3, 0.3)


def test_tests_have_to_run(make: Callable[..., Any], tmp_path: Path) -> None:
    from passes.day import Missed
    from passes.day_runs import run_tests

    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    file = tmp_path / "test_one.py"
    file.write_text("import pytest\n@pytest.mark.gpu\ndef test_one(): pass\n")
    assert "1 passed" in run_tests(make(), [str(file)], (), 0)
    file.write_text("import pytest\n@pytest.mark.gpu\ndef test_one(): assert 0\n")
    with pytest.raises(Missed, match="1 failed"):
        run_tests(make(), [str(file)], (), 0)
    file.write_text("import pytest\n@pytest.mark.gpu\ndef test_one(): pytest.skip('no device')\n")
    with pytest.raises(Missed, match="none ran: 1 skipped"):
        run_tests(make(), [str(file)], (), 0)
