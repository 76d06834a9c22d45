"""What comes in and what goes out: no network at run time, no path and no name of a person."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.tables import (
    FILES,
    SMALL,
    command,
    environment,
    npnlp,
    read_json,
    tree,
    write_table,
)

ROOT = Path(__file__).resolve().parents[2]

#: Python runs this before the program; whatever would reach for the network ends with a traceback.
NO_NETWORK = """
import socket

def refuse(*arguments, **keywords):
    raise AssertionError(f"the network was asked for: {arguments}")

for name in ("connect", "connect_ex", "bind", "sendto"):
    setattr(socket.socket, name, refuse)
for name in ("getaddrinfo", "gethostbyname", "create_connection", "getfqdn"):
    setattr(socket, name, refuse)
"""
ASKING = "import socket; socket.create_connection(('192.0.2.1', 9), timeout=1)"


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, Any]:
    """Variables of a process that is refused every socket."""
    folder = tmp_path / "offline"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def commands(folder: Path) -> list[list[str]]:
    """The main jobs, on a table that is put beside the folder of the run."""
    table = write_table(folder.parent / "small.csv")
    where = ["--save-dir", str(folder)]
    return [
        ["train", "--surname-csv", str(table), *where, "--num-epochs", "2", "--quiet", *SMALL],
        ["predict", *where, "Ramini"],
        ["evaluate", *where, "--surname-csv", str(table)],
        ["gradient-flow", *where, "--surname-csv", str(table)],
    ]


def test_nothing_asks_for_the_network(tmp_path: Path, offline: dict[str, Any]) -> None:
    for arguments in commands(tmp_path / "run"):
        done = npnlp(*arguments, cwd=tmp_path, **offline)
        assert (done.returncode, done.stderr) == (0, b""), arguments
    assert set(tree(tmp_path / "run")) >= FILES


def test_asking_for_the_network_would_be_seen(offline: dict[str, Any]) -> None:
    done = subprocess.run(
        [command()[0], "-c", ASKING], env=environment(**offline), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the network was asked for" in done.stderr


def without_network() -> list[str] | None:
    """What makes a process of a command line that has no network at all; None where it may not."""
    for tried in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if shutil.which("unshare"):
            done = subprocess.run([*tried, "true"], capture_output=True, check=False)
            if done.returncode == 0:
                return tried
    return None


@pytest.mark.slow
def test_everything_works_where_there_is_no_network(tmp_path: Path) -> None:
    isolated = without_network()
    if isolated is None:
        pytest.skip("this system does not let a test take the network away")
    for arguments in commands(tmp_path / "run"):
        done = subprocess.run(
            [*isolated, *command(*arguments)], env=environment(PYTHONPATH=str(ROOT)), cwd=tmp_path,
            capture_output=True, timeout=900, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b""), arguments


# --- nothing of whoever ran it

PERSON, HOST, FOLDER = "maria.musterfrau", "telling-host", "Telling-Folder"
#: A user and a host of these names, for every way in which Python asks.
SOMEBODY = f"""
import os, platform, pwd, socket, getpass

socket.gethostname = platform.node = lambda: "{HOST}"
os.uname = lambda real=os.uname(): type(real)((real[0], "{HOST}", *real[2:]))
getpass.getuser = os.getlogin = lambda: "{PERSON}"
"""


def told(content: bytes) -> set[str]:
    """Which of the telling words are in a file, in any spelling of their bytes."""
    text = content.replace(b"\0", b"").lower()
    return {word for word in (PERSON, HOST, FOLDER) if word.lower().encode() in text}


@pytest.mark.parametrize("options", [(), ("--learning-rate", "1e30", "--optimizer", "sgd")],
                         ids=["finished", "diverged"])  # fmt: skip
def test_no_path_and_no_name_of_a_person_or_a_machine_is_kept(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    home = tmp_path / FOLDER / PERSON
    (home / "site").mkdir(parents=True)
    (home / "site" / "sitecustomize.py").write_text(SOMEBODY, encoding="utf-8")
    names: dict[str, Any] = {"USER": PERSON,
             "LOGNAME": PERSON, "USERNAME": PERSON, "HOSTNAME": HOST,
             "HOME": str(home), "MPLCONFIGDIR": str(tmp_path / "matplotlib")}  # fmt: skip
    search = os.pathsep.join([str(home / "site"), str(ROOT)])
    train = commands(home / "run")[0]
    done = npnlp(*train, *options, cwd=home, PYTHONPATH=search, **names)
    assert done.returncode == (1 if options else 0), done.stderr
    kept = tree(home / "run")
    assert "replay.safetensors" in kept if options else set(kept) == FILES
    for name, content in kept.items():
        assert not told(content), name
        for place in (tmp_path, ROOT, Path.home()):
            if len(place.parts) > 1:
                assert str(place).encode() not in content, name


def test_a_word_that_is_kept_would_be_seen() -> None:
    assert told(b"..." + PERSON.upper().encode("utf-16-le")) == {PERSON}
    assert told(f"/home/{FOLDER}/x on {HOST}".encode()) == {FOLDER, HOST}
    assert told(b"model.safetensors") == set()


def test_what_is_said_of_the_machine_is_known(tmp_path: Path) -> None:
    """Anything more in ``environment`` has to be weighed here first."""
    done = npnlp(*commands(tmp_path / "run")[0], cwd=tmp_path)
    assert done.returncode == 0
    metrics = read_json(tmp_path / "run" / "metrics.json")
    said = {"npnlp", "backend", "numpy", "blas", "device"}
    assert set(metrics["environment"]) == said | {"python", "system"}
    assert {n for noted in metrics["computed_on"] for n in noted} == said | {
        "from_epoch", "from_batch",
    }  # fmt: skip


# --- versions


def requirements() -> dict[str, str]:
    """What setup.cfg asks for at run time: the lower end of each, by name."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["install_requires"].split()
    found = [re.fullmatch(r"([\w-]+)>=([\d.]+)", line) for line in lines]
    assert all(found), lines
    return {match[1]: match[2] for match in found if match}


def test_the_lower_ends_are_what_the_job_of_lowest_versions_installs() -> None:
    lines = (ROOT / ".ci/lowest.txt").read_text("utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    for name, version in requirements().items():
        assert pinned[name].startswith(version), name
