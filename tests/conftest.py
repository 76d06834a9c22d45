"""Fixtures that several files of tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npnlp.backend import Backend, get_backend
from npnlp.errors import DeviceError
from tests.strict import StrictBackend

BACKENDS = ["numpy", "strict", pytest.param("cupy", marks=pytest.mark.gpu)]


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
