"""What the fuzz tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.commands import Server, server


@pytest.fixture(scope="module")
def commands() -> Iterator[Server]:
    with server() as running:
        yield running
