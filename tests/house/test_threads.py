"""The number of threads of matrix products: as asked for, one by default, measured on request."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

from npnlp.backend.threads import (
    THREAD_VARIABLES,
    blas_threads,
    measured_threads,
    one_blas_thread,
)
from npnlp.errors import InputError


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


def test_a_product_of_one_row_is_not_worth_a_second_thread() -> None:
    assert measured_threads(1, 8) == 1


def test_what_is_measured_is_one_or_all_and_changes_nothing() -> None:
    found = measured_threads(64, 256)
    assert found in (1, len(os.sched_getaffinity(0)))
    assert threads() == {2}


def test_the_command_takes_a_number_or_measures(tmp_path: Path) -> None:
    def train(threads: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "npnlp", "train", "--quick", "--threads", threads]
        folder = ["--save-dir", str(tmp_path / threads)]
        return subprocess.run([*command, *folder], capture_output=True, text=True, check=False)

    for wrong, why in (("0", "threads is 0"), ("many", "invalid")):
        refused = train(wrong)
        assert (refused.returncode, why in refused.stderr) == (2, True)
    assert re.search(r"^Threads: \d+, by measurement$", train("auto").stdout, re.MULTILINE)
