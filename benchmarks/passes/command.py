"""The command itself, in processes of its own: files of any number of names, and its start."""

from __future__ import annotations

import os
import string
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

#: Runs the command and says how much memory it had at most, in KB; what ``resource`` says of that
#: counts the process that started it.
WITH_MEMORY = """
import pathlib, re, sys
from npnlp.cli import main
status = main(sys.argv[1:])
state = pathlib.Path("/proc/self/status")
found = re.search(r"VmHWM:\\s+(\\d+)", state.read_text()) if state.exists() else None
print(found[1] if found else "nan", file=sys.stderr)
sys.exit(status)
"""

#: The digits of a number to base 26 as letters.
AS_LETTERS = str.maketrans(string.digits + string.ascii_uppercase[:16], string.ascii_lowercase)
#: What the ways of npnlp are called: the ordinary one, and with compiled loops, where Numba is.
NUMPY, NUMBA = "npnlp", "npnlp --backend numba"
COMMANDS = {"numpy": NUMPY, "numba": NUMBA}
PREDICT = {"numpy": "npnlp predict", "numba": "npnlp predict --backend numba"}
BACKENDS = ["numpy", "numba"] if find_spec("numba") and find_spec("scipy") else ["numpy"]

Row = dict[str, Any]


#: What a file of names is, and its options: a name a line, a table, and objects of JSON from each.
FORMS = {"": ("names.txt", []), " of a table": ("names.csv", []),
         " of JSON": ("names.txt", ["--json"]),
         " of JSON with columns": ("names.csv", ["--json"])}  # fmt: skip


def write_names(folder: Path, names: list[str], count: int) -> None:
    """``count`` names, a name a line and as a table; more than there are have letters behind."""
    with (folder / "names.txt").open("w") as plain, (folder / "names.csv").open("w") as table:
        table.write("id,surname,town\n")
        for first in range(0, count, len(names)):
            behind = np.base_repr(first // len(names), 26).translate(AS_LETTERS) if first else ""
            some = [name + behind for name in names[: count - first]]
            plain.writelines(f"{name}\n" for name in some)
            table.writelines(f'{n},{name},"Some, town"\n' for n, name in enumerate(some, first))


def file_to_file(model: Path, count: int, folder: Path, backend: str, form: str = "") -> Row:
    """The command on a file, in a process of its own; with its memory."""
    source, more = FORMS[form]
    command = [sys.executable, "-c", WITH_MEMORY, "predict", "--save-dir", str(model.parent),
               "--input", str(folder / source), "--output", str(folder / "predicted"), *more,
               "--backend", backend]  # fmt: skip
    before = children_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = children_seconds() - before
    kilobytes = float(done.stderr.split()[-1])
    return {"way": f"{PREDICT[backend]}, file to file{form}", "names": count, "seconds": seconds,
            "microseconds_per_name": 1e6 * seconds / count,
            "megabytes": kilobytes / 1024}  # fmt: skip


def files_of(model: Path, names: list[str], folder: Path) -> list[Row]:
    """A file of these names, by each backend."""
    write_names(folder, names, len(names))
    return [file_to_file(model, len(names), folder, backend) for backend in BACKENDS]


def large_files(model: Path, names: list[str], folder: Path, count: int) -> list[Row]:
    """Every form of a file with ``count`` different names."""
    write_names(folder, names, count)
    return [file_to_file(model, count, folder, "numpy", form) for form in FORMS]


def children_seconds() -> float:
    """Processor time of the processes that this one has waited for."""
    times = os.times()
    return times.children_user + times.children_system


def cold_start(model: Path, runs: int) -> list[Row]:
    """One name from a fresh process; and what importing NumPy or PyTorch takes."""
    predict = ["-m", "npnlp", "predict", "Nakamoto", "--save-dir", str(model.parent), "--backend"]
    ways = {**{f"{PREDICT[backend]}, cold start": [*predict, backend] for backend in BACKENDS},
            "import numpy": ["-c", "import numpy"],
            "import torch": ["-c", "import torch"]}  # fmt: skip
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    # The first run, which does not count, stores the bytecode, as an installation does.
    stored = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(runs + 1):
        for way, arguments in ways.items():
            started, before = time.perf_counter(), children_seconds()
            subprocess.run(
                [sys.executable, *arguments], capture_output=True, check=True, env=stored
            )
            seconds[way].append((children_seconds() - before, time.perf_counter() - started))
    rows = []
    for way, taken in seconds.items():
        of_processor, by_clock = np.median(taken[1:], axis=0).tolist()
        rows.append({"way": way, "names": 1, "seconds": of_processor, "clock_seconds": by_clock})
    return rows
