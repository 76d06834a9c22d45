"""pytest on the pretend device: ``python -m tests.support.pretend -m gpu tests/backend/cuda``."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.support import pretend

#: Its kernel keeps the device busy by reading a clock; here all work is done at once.
BUSY = "test_a_device_is_not_waited_for"


class WithoutBusy:
    """Leaves out what a device that does its work at once cannot show."""

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Called by pytest."""
        items[:] = [item for item in items if not item.name.startswith(BUSY)]


if __name__ == "__main__":
    pretend.start()
    status = pytest.main(["-n", "0", *sys.argv[1:]], plugins=[WithoutBusy()])
    print(f"pretend: {pretend.counts()}")
    sys.exit(status)
