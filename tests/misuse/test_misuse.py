"""Misuses at random: refused by name, or right; and no array is read past its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from npnlp.backend import get_backend
from npnlp.layers.recurrent.recurrent import Recurrent
from tests.misuse.cases import judge
from tests.misuse.guard import Guarded

ROOT = Path(__file__).parents[2]
NUMPY = get_backend("numpy")
#: How many cases the longer run takes of each backend: as many as asked for.
MANY = os.environ.get("NPNLP_MISUSES", "10000")
linux = pytest.mark.skipif(
    sys.platform != "linux", reason="memory is guarded with Linux's mprotect"
)


def require_numba() -> None:
    for name in ("numba", "scipy"):
        pytest.importorskip(name, reason=f"{name} is not installed")


def ended(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, which may end in a signal."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3000)


def test_numpy_refuses_a_misuse_or_is_right() -> None:
    guard = Guarded()
    for number in range(200):
        judged = judge(NUMPY, guard, 1, number)
        assert not judged.finding, f"case {number}: {judged.what}: {judged.finding}"


@pytest.mark.peers
def test_compiled_code_refuses_a_misuse_or_is_right() -> None:
    require_numba()
    done = ended("-m", "tests.misuse", "--backend", "numba", "--cases", "200", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numpy", "reference"])
def test_many_misuses(backend: str) -> None:
    done = ended("-m", "tests.misuse", "--backend", backend, "--cases", MANY, "--seed", "2")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.peers
def test_many_misuses_of_compiled_code() -> None:
    require_numba()
    done = ended("-m", "tests.misuse", "--backend", "numba", "--cases", MANY, "--seed", "2")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_layer_that_checks_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: Any, *arguments: Any, **options: Any) -> None:
        """Take all."""

    monkeypatch.setattr(Recurrent, "check_forward", nothing)
    guard = Guarded()
    assert any(judge(NUMPY, guard, 1, number).finding for number in range(200))


PAST_THE_END = """
import ctypes
import numpy as np
from tests.misuse.guard import Guarded
array = Guarded().array(np.ones(3))
assert (array == 1).all()
print("inside", flush=True)
ctypes.c_double.from_address(array.ctypes.data + 8 * {element}).value
"""


@linux
@pytest.mark.parametrize("element", [2, 3])
def test_the_end_of_an_array_is_guarded(element: int) -> None:
    done = ended("-c", PAST_THE_END.format(element=element))
    assert done.stdout == "inside\n"
    assert done.returncode == (0 if element == 2 else -signal.SIGSEGV)


UNCHECKED = """
import numpy as np
from npnlp.layers import Elman, Packing
from tests.misuse.guard import Guarded
array, layer = Guarded().array, Elman(3, 64, backend="numba", dtype=float)
packing = Packing.of(np.full(32, 2), layer.backend)
(hidden, _), cache = layer.forward(array(np.ones((64, 3))), packing=packing)
layer.undo((array(hidden),), cache)
print("right", flush=True)
layer.{method}((array(hidden[:, :1]),), cache)
"""


@linux
@pytest.mark.peers
def test_compiled_code_without_the_check_would_read_past_the_end() -> None:
    """What the check is for, and that the guard sees it."""
    require_numba()
    without = ended("-c", UNCHECKED.format(method="undo"))
    assert (without.stdout, without.returncode) == ("right\n", -signal.SIGSEGV)
    checked = ended("-c", UNCHECKED.format(method="backward"))
    assert checked.returncode == 1
    assert "InputError: dy[0] is float64 of shape (64, 1); it has to be" in checked.stderr
