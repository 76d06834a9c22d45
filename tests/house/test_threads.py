"""The number of threads of matrix products: as asked for, one by default, measured on request.

What is measured depends on who else computes: here a clock of the test's own says how long it took.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

from npnlp.backend.threads import (
    THREAD_VARIABLES,
    TRIALS,
    blas_threads,
    measured_threads,
    one_blas_thread,
)
from npnlp.errors import InputError
from tests.support.tables import SMALL, run_main, train_small, write_table


def threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with blas_threads(2):
        yield


def test_one_by_default_and_as_before_afterwards() -> None:
    with one_blas_thread():
        assert threads() == {1}
    assert threads() == {2}


def test_the_environment_is_left_to_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    with one_blas_thread():
        assert threads() == {2}


def test_as_many_as_asked_for() -> None:
    with blas_threads(1):
        assert threads() == {1}


def test_fewer_than_one_is_refused() -> None:
    with pytest.raises(InputError, match="threads is 0; it has to be a whole number above 0"):
        blas_threads(0)


class Clock:
    """A clock that goes on by so much for a trial with each number of threads."""

    def __init__(self, taken: dict[int, float]) -> None:
        self.now, self.taken, self.trials = 0.0, taken, dict.fromkeys(taken, 0.0)

    def perf_counter(self) -> float:
        (count,) = threads()  # as many as the products of the trial get
        self.trials[count] += 0.5  # read before and after
        self.now += self.taken[count] / 2
        return self.now


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize(
    ("one", "two", "chosen", "trials"),
    [
        (1.0, 0.5, 2, TRIALS), (1.0, 0.79, 2, TRIALS),  # by more than WORTH
        (1.0, 0.81, 1, TRIALS), (1.0, 1.0, 1, TRIALS), (1.0, 1.9, 1, TRIALS),
        (1.0, 50.0, 1, 1),  # another program holds a core: no second trial
    ],
)  # fmt: skip
def test_more_threads_are_chosen_where_they_are_faster_by_a_quarter(
    one: float, two: float, chosen: int, trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock({1: one, 2: two})
    monkeypatch.setattr("npnlp.backend.threads.time", clock)
    assert measured_threads(8, 8) == chosen
    assert clock.trials == {1: trials, 2: trials}
    assert threads() == {2}


def test_what_is_measured_is_one_or_all_and_changes_nothing() -> None:
    found = measured_threads(64, 256)
    assert found in (1, len(os.sched_getaffinity(0)))
    assert threads() == {2}


@pytest.mark.parametrize(("wrong", "why"), [("0", "threads is 0"), ("many", "invalid")])
def test_the_command_refuses_a_wrong_number(
    wrong: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_small(tmp_path / "run", "--threads", wrong) == 2
    assert why in capsys.readouterr().err


def test_the_command_measures_where_asked_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "small.csv")
    run = ("train", "--surname-csv", table, "--save-dir", tmp_path / "run", *SMALL)
    assert run_main(*run, "--num-epochs", "1", "--threads", "auto") == 0
    said = capsys.readouterr().out
    assert re.search(r"^Threads: \d+, by measurement$", said, re.MULTILINE)
