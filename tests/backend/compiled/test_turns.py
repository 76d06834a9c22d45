"""Processes that start at once: one compiles, the others load; and nothing waits for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.tables import environment

pytest.importorskip("numba", reason="Numba is not installed")
pytest.importorskip("scipy", reason="SciPy, whose BLAS Numba calls, is not installed")
pytestmark = pytest.mark.peers

COMPILE = """
import numpy as np
from npnlp.backend.compiled.sums import segment_sum
print("ready", flush=True)
input()
segment_sum(np.ones((3, 2)), np.arange(3), np.zeros((3, 2)))
print(sum(segment_sum.stats.cache_misses.values()))
"""
HOLD = """
import sys
from pathlib import Path
from npnlp.backend.compiled.vectors.turns import turn
with turn(Path(sys.argv[1])):
    print("ready", flush=True)
    input()
"""


def started(code: str, *arguments: object, **variables: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment(**variables),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_of_processes_that_start_at_once_one_compiles(tmp_path: Path) -> None:
    both = [started(COMPILE, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert sorted(int(process.communicate(timeout=900)[0]) for process in both) == [0, 1]


def test_a_turn_ends_with_a_killed_process(tmp_path: Path) -> None:
    from npnlp.backend.compiled.vectors.turns import turn

    holder = started(HOLD, tmp_path)
    waited = time.monotonic()
    with turn(tmp_path, patience=0.1):  # goes ahead
        waited = time.monotonic() - waited
    assert waited > (0.09 if os.name == "posix" else 0)
    holder.send_signal(signal.SIGTERM if os.name != "posix" else signal.SIGKILL)
    holder.communicate(timeout=900)
    waited = time.monotonic()
    with turn(tmp_path):
        assert time.monotonic() - waited < 60


def test_there_is_no_turn_where_there_is_no_folder(tmp_path: Path) -> None:
    from npnlp.backend.compiled.vectors.turns import turn

    with turn(tmp_path / "none"):
        pass
    assert not (tmp_path / "none").exists()
