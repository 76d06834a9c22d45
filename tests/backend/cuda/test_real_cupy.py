"""The real CuPy, where its wheel is installed (extra ``cuda13``): without a device, and on one that
is pretended, in a process of its own (``tests/support/pretend``)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.backend import get_backend
from npnlp.errors import DeviceError
from tests.support import pretend
from tests.support.tables import environment

ROOT = Path(__file__).parents[3]
HERE = "tests/backend/cuda"
needs_pretend = pytest.mark.skipif(bool(pretend.missing()), reason=pretend.missing())


def on_pretend(*arguments: str) -> tuple[dict[str, int], str]:
    """How many tests ended how, and the output."""
    command = [sys.executable, "-m", "tests.support.pretend", "-q", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment()
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    ends = re.findall(r"(\d+) (passed|failed|skipped|deselected)", said)
    return {name: int(count) for count, name in ends}, said


@needs_pretend
def test_what_cupy_does_in_pools_captures_and_launches() -> None:
    ends, said = on_pretend(f"{HERE}/on_pretend.py")
    assert ends.get("passed", 0) >= 25, said
    assert not ends.get("skipped"), said


@needs_pretend
@pytest.mark.slow
def test_the_main_job_runs_on_cupys_own_graphs_and_modules_are_made_for_every_target() -> None:
    ends, said = on_pretend("-m", "slow", f"{HERE}/on_pretend.py")
    assert ends["passed"] >= 40, said


@needs_pretend
@pytest.mark.slow
@pytest.mark.parametrize("file", ["test_gpu.py", "test_captured.py"])
def test_the_tests_of_a_device_pass_on_the_pretend_one(file: str) -> None:
    ends, said = on_pretend("-m", "gpu and not slow", f"{HERE}/{file}")
    assert ends["passed"] >= 20, said
    assert not ends.get("skipped"), said


def test_arrays_of_the_wheel_lie_where_they_are_told_to() -> None:
    """What a launch is given: the address, the shape and the strides of an array and its views."""
    cupy: Any = pytest.importorskip("cupy")
    host = np.arange(8, dtype=np.float32)
    memory = cupy.cuda.UnownedMemory(host.ctypes.data, host.nbytes, host, 0)
    array = cupy.ndarray((2, 4), np.float32, cupy.cuda.MemoryPointer(memory, 0))
    assert array.data.ptr == host.ctypes.data
    assert array[1:, 1:].data.ptr == host.ctypes.data + 20
    assert (array.strides, array.T.strides) == ((16, 4), (4, 16))
    assert not array.T.flags.c_contiguous


def test_without_a_driver_the_wheel_is_named_with_what_is_missing() -> None:
    cupy: Any = pytest.importorskip("cupy")
    try:
        get_backend("cupy")
    except DeviceError as error:
        said = str(error)
    else:
        pytest.skip("there is a device")
    assert said.startswith(f"backend cupy: CuPy {cupy.__version__} is installed but ")
