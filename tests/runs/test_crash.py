"""Training processes that are killed: what they leave, and what they resume to.

How it is done stands in ``tests/crash``; what is promised, in ``docs/crash-safety.md``.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from npnlp.errors import InputError
from npnlp.files import TEMPORARY, lock, remove_leftovers, write_atomic
from npnlp.files.folder_lock import NAME, FolderLock
from npnlp.files.tensors import load_tensors
from npnlp.runs.report import write_report
from tests.support.tables import (
    FILES,
    ROOT,
    SMALL,
    check_same_run,
    command,
    environment,
    finished_run,
    make_run,
    npnlp,
    refusal,
    train_small,
    tree,
    write_table,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="fork and SIGKILL are POSIX's")
#: A folder in memory, where there is one: a kill loses nothing of a disk's cache either way.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


def crash(module: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"tests.crash.{module}", str(folder), *arguments], cwd=ROOT,
        env=environment(), capture_output=True, text=True, check=False, timeout=3000,
    )  # fmt: skip


def points(done: subprocess.CompletedProcess[str]) -> int:
    """How many points were tried, all of which went well."""
    assert done.returncode == 0, done.stderr
    return sum(json.loads(line)["points"] for line in done.stdout.splitlines())


def test_a_kill_at_any_operation_loses_nothing(folder: Path) -> None:
    """Of a run that goes on, at one in five points; the slow test has all, of every kind of run."""
    assert points(crash("kill", folder, "interrupted", "--one-in", "5")) >= 30


def test_a_kill_at_a_random_time_loses_nothing(folder: Path) -> None:
    assert points(crash("kill", folder, "another run", "--random", "5")) == 5


def test_a_power_cut_at_any_operation_loses_nothing(folder: Path) -> None:
    assert points(crash("power", folder)) >= 300


@pytest.mark.slow
def test_a_kill_at_any_operation_of_every_kind_of_run_loses_nothing(folder: Path) -> None:
    """And every single point is resumed from, not only every state that is left."""
    assert points(crash("kill", folder, "--every")) >= 1000


@pytest.mark.slow
def test_many_kills_at_random_times_lose_nothing(folder: Path) -> None:
    assert points(crash("kill", folder, "--random", "100")) == 400


def test_files_written_in_place_would_be_found(folder: Path) -> None:
    """The checks above can fail."""
    done = crash("kill", folder, "another run", "--in-place")
    assert done.returncode == 1
    assert "safetensors: not a readable safetensors file" in done.stderr


@pytest.mark.parametrize("forgotten", ["file", "folder"])
def test_a_forgotten_flush_would_be_found(folder: Path, forgotten: str) -> None:
    done = crash("power", folder, "--forget", forgotten)
    assert done.returncode == 1
    assert "Error" in done.stderr


def kill_a_command(folder: Path, seconds: float) -> None:
    """Kill ``npnlp train`` so long after its checkpoint appeared, and resume."""
    folder.mkdir()
    table = write_table(folder / "small.csv")
    options = ("train", "--surname-csv", table, "--save-dir", folder / "run", "--num-epochs", "3",
               "--quiet", *SMALL)  # fmt: skip
    process = subprocess.Popen(command(*options), env=environment())
    while not (folder / "run" / "last.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.001)
    time.sleep(seconds)
    process.kill()
    process.wait(timeout=900)
    load_tensors(folder / "run" / "last.safetensors", "npnlp checkpoint")
    done = npnlp(*options, "--resume")
    assert (done.returncode, done.stderr) == (0, b"")
    assert set(tree(folder / "run")) == FILES


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory)


def test_the_command_killed_at_a_random_time_loses_nothing(folder: Path, finished: Path) -> None:
    kill_a_command(folder / "a", random.Random().uniform(0, 0.2))
    check_same_run(finished, folder / "a" / "run")


@pytest.mark.slow
def test_the_command_killed_at_many_random_times_loses_nothing(
    folder: Path, finished: Path
) -> None:
    draw = random.Random(3)
    for count in range(30):
        # Up to two seconds: pictures are drawn at the end.
        kill_a_command(folder / str(count), draw.uniform(0, 2))
        check_same_run(finished, folder / str(count) / "run")


def leftover(folder: Path) -> Path:
    path = folder / f".npnlp-{random.Random(1).randbytes(8).hex()}.tmp"
    path.write_bytes(b"half")
    return path


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path, finished: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    path = leftover(run)
    assert TEMPORARY.fullmatch(path.name)
    (run / NAME).write_text("process 1 since 2020-01-01 00:00:00 UTC\n")  # nobody holds it
    assert train_small(run) == 0
    check_same_run(finished, run)
    assert set(tree(run)) == FILES


def test_nothing_else_is_removed(tmp_path: Path) -> None:
    names = [".npnlp-notes.tmp", "npnlp-0123456789abcdef.tmp", ".npnlp-0123456789abcdef.tmp~",
             ".model.safetensors.x", "notes.txt"]  # fmt: skip
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".npnlp-0123456789abcde0.tmp").mkdir()
    before = tree(tmp_path)
    remove_leftovers(tmp_path)
    assert tree(tmp_path) == before
    assert (tmp_path / ".npnlp-0123456789abcde0.tmp").is_dir()


def test_a_file_that_is_being_written_is_not_removed(tmp_path: Path) -> None:
    path = leftover(tmp_path)
    with path.open("r+b") as file:
        assert lock(file.fileno())
        remove_leftovers(tmp_path)
        assert path.exists()
    remove_leftovers(tmp_path)
    assert not path.exists()


def test_a_link_in_the_place_of_a_leftover_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".npnlp-0123456789abcdef.tmp").symlink_to(tmp_path / "mine")
    remove_leftovers(tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"


def endless(folder: Path) -> subprocess.Popen[bytes]:
    """A run that does not end by itself, once it has begun."""
    table = write_table(folder.parent / "small.csv")
    process = subprocess.Popen(
        command("train", "--surname-csv", table, "--save-dir", folder, "--quiet", *SMALL,
                "--num-epochs", "1000000", "--early-stopping-criteria", "1000000",
                "--learning-rate", "0.0001"),
        env=environment(), stderr=subprocess.PIPE,
    )  # fmt: skip
    while not (folder / "history.csv").exists():
        assert process.poll() is None
        time.sleep(0.01)
    return process


def test_a_second_run_in_the_same_folder_is_refused_with_the_first_ones_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = endless(tmp_path / "run")
    try:
        since = (tmp_path / "run" / NAME).read_text().split("since ")[1].strip()
        for option in ((), ("--resume",)):
            assert train_small(tmp_path / "run", *option) == 2
            refusal(capsys.readouterr().err, f"npnlp train: {tmp_path / 'run'}",
                    f"process {first.pid} since {since}", "--save-dir")  # fmt: skip
        assert first.poll() is None
        (tmp_path / "other").mkdir()
        assert train_small(tmp_path / "other") == 0
    finally:
        first.kill()
        first.communicate(timeout=900)
    assert train_small(tmp_path / "run", "--overwrite") == 0, "the lock ends with the process"
    assert set(tree(tmp_path / "run")) == FILES


def test_a_run_holds_its_folder_until_its_last_file_is_written(tmp_path: Path) -> None:
    one, other = make_run(tmp_path / "run"), make_run(tmp_path / "run")
    with one.lock:
        one.train()
        with pytest.raises(InputError, match=f"process {os.getpid()} since "):
            other.train()
        write_report(one, one.evaluate())
    other.train()
    assert NAME not in tree(tmp_path / "run")


def test_a_lock_that_its_holder_removed_is_not_taken_for_one(tmp_path: Path) -> None:
    """Who waited for the old file would hold nothing: the next one makes a new file."""
    with FolderLock(tmp_path), (tmp_path / NAME).open("r+b") as old:
        assert not lock(old.fileno())
    assert not (tmp_path / NAME).exists()
    with FolderLock(tmp_path):
        assert (tmp_path / NAME).exists()


def test_a_folder_that_was_replaced_is_not_written_to(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with run.lock:
        run.train()
        (tmp_path / "run").rename(tmp_path / "moved")
        other = make_run(tmp_path / "run")
        other.train()
        before = tree(tmp_path / "run")
        with pytest.raises(FileNotFoundError, match="replaced"):
            write_report(run, run.evaluate())
    assert tree(tmp_path / "run") == before


def test_an_error_says_that_the_folder_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="its folder is not there"):
        write_atomic(tmp_path / "gone" / "file", "new")


@pytest.mark.parametrize("delay", [0.0, 0.01])
def test_two_interrupts_end_at_once_and_leave_whole_files(
    tmp_path: Path, finished: Path, delay: float
) -> None:
    process = endless(tmp_path / "run")
    process.send_signal(signal.SIGINT)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=900)
    assert process.returncode == 130
    refusal(err.decode(), "interrupted", tmp_path / "run" / "last.safetensors", "--resume")
    left = {name for name in tree(tmp_path / "run") if not name.startswith(".npnlp")}
    assert left <= FILES  # the next run removes a lock or a temporary file of its own
    load_tensors(tmp_path / "run" / "model.safetensors", "npnlp classifier")
    load_tensors(tmp_path / "run" / "last.safetensors", "npnlp checkpoint")


IMPORTS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
import npnlp.cli
assert "numpy" not in sys.modules
def press(event, arguments):
    if event == "import" and arguments[0] == "{module}":
        signal.raise_signal(signal.SIGINT)
sys.addaudithook(press)
sys.exit(npnlp.cli.main(["train", "--help"]))
"""


@pytest.mark.parametrize("module", ["npnlp.cli.commands", "numpy", "safetensors", "npnlp.runs.run"])
def test_an_interrupt_during_the_imports_is_one_line(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS.format(module=module)], capture_output=True, text=True,
        env=environment(), check=False, timeout=900,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "npnlp: interrupted\n")
