"""pytest on the pretend device: ``python -m tests.support.pretend -m gpu tests/backend/cuda``."""

from __future__ import annotations

import sys

from tests.support import pretend

if __name__ == "__main__":
    pretend.start()
    import pytest

    status = pytest.main(["-n", "0", *sys.argv[1:]])
    print(f"pretend: {pretend.counts()}")
    sys.exit(status)
