"""Disks that are full, read-only, forbidden or gone under a training run, with real errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.crash.faults import CANNOT
from tests.support.tables import ROOT, SMALL, command, environment, refusal, write_table

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the faults are made POSIX's way")
#: How many points each has at least: a write or a file of the small run, or an operation.
LEAST = {
    "too large": 12,
    "full": 8,
    "full of files": 8,
    "read-only": 12,
    "forbidden": 24,
    "deleted": 80,
}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=pytest.mark.slow) if fault not in ("full", "read-only") else fault
        for fault in LEAST
    ],
)
def test_a_fault_is_one_line_and_what_was_saved_before_stays(fault: str) -> None:
    """At every write, file or operation: status 2, a file named, and ``--resume`` mends it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # one of them gives up root's rights
        done = subprocess.run(
            [sys.executable, "-m", "tests.crash.faults", f"{folder}/place", fault], cwd=ROOT,
            env=environment(), capture_output=True, text=True, check=False, timeout=900,
        )  # fmt: skip
    if done.returncode == CANNOT:
        pytest.skip(f"cannot be made by this user here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["points"] >= LEAST[fault]


full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")


@full
def test_a_full_disk_under_standard_output_of_a_run_is_one_line(tmp_path: Path) -> None:
    table = write_table(tmp_path / "small.csv")
    with Path("/dev/full").open("w") as output:
        done = subprocess.run(
            command("train", "--surname-csv", table, "--save-dir", tmp_path / "run", *SMALL),
            stdout=output, stderr=subprocess.PIPE, text=True, env=environment(), check=False,
            timeout=900,
        )  # fmt: skip
    assert done.returncode == 2
    refusal(done.stderr, "npnlp train: standard output: No space left on device")


@full
def test_a_folder_that_is_a_full_device_is_one_line(tmp_path: Path) -> None:
    table = write_table(tmp_path / "small.csv")
    done = subprocess.run(
        command("train", "--surname-csv", table, "--save-dir", "/dev/full", "--quiet", *SMALL),
        capture_output=True, text=True, env=environment(), check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 2
    refusal(done.stderr, "npnlp train: /dev/full: ")
