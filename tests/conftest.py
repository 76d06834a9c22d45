"""Fixtures that several files of tests share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from npnlp.backend import Backend, get_backend
from npnlp.backend.threads import blas_threads
from npnlp.errors import DeviceError
from tests.support.strict import StrictBackend

# How long an example takes is not looked at: on a busy machine it says nothing.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

BACKENDS = [
    "numpy", "strict", pytest.param("numba", marks=pytest.mark.peers),
    pytest.param("cupy", marks=pytest.mark.gpu),
]  # fmt: skip


# They hold no state, so a session can share them, and hypothesis can use them too.
@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "strict":
        return StrictBackend()
    try:
        return get_backend(request.param)
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> np.dtype[Any]:
    return np.dtype(str(request.param))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The benchmarks' own folder, from which a test then imports ``passes`` and the scripts."""
    folder = Path(__file__).parents[1] / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    own = {"passes", *(script.stem for script in folder.glob("*.py"))}
    for name in [name for name in sys.modules if name.split(".")[0] in own]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture(scope="session", autouse=True)
def pictures_drawn_once() -> Iterator[None]:
    """Runs in this process share their pictures; those in processes of their own draw theirs."""
    from tests.support.pictures import drawn_once

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("npnlp.plots.draw_run", drawn_once)
        yield


@pytest.fixture
def all_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a test that looks at the pictures of its own runs."""
    from tests.support.pictures import draw_run

    monkeypatch.setattr("npnlp.plots.draw_run", draw_run)


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread() -> Iterator[None]:
    """As the command has it: with another number of threads the last bits are others."""
    with blas_threads(1):
        yield
