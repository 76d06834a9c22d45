"""The device of these tests: the stand-in that captures, and where there is one, a real device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from npnlp.backend import get_backend
from npnlp.errors import DeviceError
from tests.support.capturing import CapturingBackend
from tests.support.shim import require_compiler


@pytest.fixture(params=["shim", pytest.param("cupy", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "shim":
        require_compiler()
        with CapturingBackend().in_place() as backend:
            yield backend
        return
    try:
        on_device = get_backend("cupy")
    except DeviceError as error:
        pytest.skip(str(error))
    yield on_device
