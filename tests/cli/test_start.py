"""What the command loads before it predicts: a name waits for no more than it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np

from npnlp.backend.random import UNDRAWN

#: Loaded for other work alone, and each takes milliseconds.
OTHERS = (
    "difflib", "hashlib", "importlib.resources", "matplotlib", "npnlp.cli.predict_file",
    "npnlp.training", "pandas", "tempfile", "threadpoolctl", "tqdm",
)  # fmt: skip
PREDICTED = """
import json, sys
from npnlp.cli import main
status = main(sys.argv[1:])
loaded = set(sys.modules)
from threadpoolctl import threadpool_info
threads = [found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"]
print(json.dumps({"status": status, "loaded": sorted(loaded), "threads": threads}))
"""


def started(*arguments: str, **environment: str) -> dict[str, object]:
    inherited = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", PREDICTED, *arguments], capture_output=True, text=True, check=True,
        env={**inherited, **environment},
    )  # fmt: skip
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    assert found["status"] == 0
    return found


def test_one_name_loads_nothing_that_it_does_not_use() -> None:
    found = started("predict", "Nakamoto")
    loaded = found["loaded"]
    assert isinstance(loaded, list)
    assert "npnlp.classifier.classifier" in loaded
    assert not set(OTHERS) & set(loaded)


def test_blas_has_one_thread_unless_the_environment_asks() -> None:
    assert started("predict", "Nakamoto")["threads"] == [1]
    asked = started("predict", "Nakamoto", OPENBLAS_NUM_THREADS="2")["threads"]
    assert asked == [min(2, os.cpu_count() or 1)]


def test_nothing_is_drawn_for_weights_that_are_read() -> None:
    stream = UNDRAWN.child("rnn").child("weight_hh_l0")
    assert not stream.normal((3, 5)).any()
    np.testing.assert_array_equal(stream.uniform((2,), -0.5, 0.5), [-0.5, -0.5])
