"""The device of these tests: the stand-in that captures, and where there is one, a real device.

Each planted mistake is compiled. So of those of a test the first few belong to the ordinary run,
and the others to the slow one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from npnlp.backend import get_backend
from npnlp.errors import DeviceError
from tests.support.capturing import CapturingBackend
from tests.support.shim import require_compiler

HERE = Path(__file__).parent
#: Planted mistakes of one test that belong to the ordinary run.
ORDINARY = 3


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what is beyond the first mistakes of each test."""
    seen: Counter[tuple[Path, str]] = Counter()
    for item in items:
        name = item.name.partition("[")[0]
        if (
            item.path.parent == HERE
            and "mistake" in name
            and item.get_closest_marker("slow") is None
        ):
            seen[item.path, name] += 1
            if seen[item.path, name] > ORDINARY:
                item.add_marker(pytest.mark.slow)


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
