"""Several processes on a machine: each takes a device of its own, as far as there are any."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from npnlp.backend import get_backend
from npnlp.backend.cuda.backend import CupyBackend
from npnlp.errors import DeviceError
from npnlp.training.distributed.mpi import Mpi
from npnlp.training.distributed.shared import Shared


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is asked of a CuPy with three devices, in order."""
    asked: list[Any] = []
    cupy: Any = ModuleType("cupy")

    def arange(size: int) -> Any:
        asked.append("computes")
        return np.arange(size)

    def device(number: int) -> Any:
        return SimpleNamespace(use=lambda: asked.append(number))

    runtime = SimpleNamespace(getDeviceCount=lambda: 3)
    cupy.__version__, cupy.arange, cupy.dot = "14.2.0", arange, np.dot
    cupy.cuda = SimpleNamespace(Device=device, runtime=runtime)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return asked


@pytest.mark.parametrize(("rank", "device"), [(0, 0), (2, 2), (3, 0), (7, 1)])
@pytest.mark.parametrize("name", ["cupy", "auto"])
def test_a_rank_takes_the_device_of_its_number(
    devices: list[Any], name: str, rank: int, device: int
) -> None:
    """Before anything is computed; with fewer devices than ranks, several share one."""
    assert isinstance(get_backend(name, local_rank=rank), CupyBackend)
    assert devices == [device, "computes"]


def test_one_process_keeps_the_device_that_cupy_has(devices: list[Any]) -> None:
    get_backend("cupy")
    assert devices == ["computes"]


def test_no_device_for_a_rank_is_one_line(devices: list[Any]) -> None:
    def none() -> int:
        raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    sys.modules["cupy"].cuda.runtime.getDeviceCount = none
    with pytest.raises(DeviceError, match="no CUDA device is usable"):
        get_backend("cupy", local_rank=1)


def test_a_rank_is_numbered_among_those_of_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of six ranks on two machines, the fifth is the second one there."""
    freed: list[bool] = []

    class World:
        rank, size = 4, 6

        def Dup(self) -> World:
            return self

        def Split_type(self, kind: str) -> Any:
            assert kind == "of one memory"
            return SimpleNamespace(rank=1, Free=lambda: freed.append(True))

    mpi4py: Any = ModuleType("mpi4py")
    mpi4py.MPI = SimpleNamespace(
        COMM_WORLD=World(), COMM_TYPE_SHARED="of one memory", __file__="no library"
    )
    monkeypatch.setitem(sys.modules, "mpi4py", mpi4py)
    found = Shared(Mpi())
    assert (found.rank, found.local_rank) == (4, 1)
    assert freed == [True]
