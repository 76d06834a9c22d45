"""Parts of the first day that are processes of their own: tests, the main job, many seeds."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from passes.day import Day, Missed, last_line

ROOT = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("day_child.py")
#: What is compared with NumPy over an epoch, and how far it may be, relative to NumPy's.
COMPARED, CLOSE = ("train_loss", "val_loss", "grad_norm"), 1e-4
#: Of many seeds: the time of all over the time of one.
SEEDS_BOUND = 4.0
#: The tests of captured steps and kernels; all others marked ``gpu`` come later.
FIRST_TESTS = ("tests/backend/cuda",)


def run_tests(day: Day, where: Sequence[str], without: Sequence[str], workers: int) -> str:
    """The tests marked ``gpu`` in these places."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-n", str(workers), *where]
    for place in without:
        command += ["--ignore", place]
    said = last_line(day.process(f"pytest {' '.join(where)}", command, cwd=ROOT))
    if " passed" not in said:
        raise Missed(f"none ran: {said}")
    return said


def train(day: Day, name: str, backend: str, epochs: int, seed: int, *more: str) -> dict[str, Any]:
    """A run of the main job: the history of each of its folders, and its counts."""
    with tempfile.TemporaryDirectory() as folder:
        out, counts = Path(folder) / "run", Path(folder) / "counts.json"
        command = [
            sys.executable, "-W", "error::RuntimeWarning", CHILD, counts, "train", "--quiet",
            "--no-pictures", "--backend", backend, "--num-epochs", epochs, "--seed", seed,
            "--save-dir", out, *more,
        ]  # fmt: skip
        day.process(f"{name} ({backend})", list(map(str, command)), cwd=ROOT)
        histories = [rows_of(path) for path in sorted(out.rglob("history.csv"))]
        return {"histories": histories, **json.loads(counts.read_text("utf-8"))}


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main_job(day: Day, epochs: int, seed: int, *, backend: str = "cupy") -> str:
    """The experiment of the README cold, warm and with NumPy: same bits, near losses, counts."""
    runs = {}
    for name, way in (("cold", backend), ("warm", backend), ("numpy", "numpy")):
        found = runs[name] = train(day, name, way, epochs, seed)
        for row in found["histories"][0]:
            kept = {key: row[key] for key in ("epoch", *COMPARED, "seconds", "names_per_second")}
            day.table("main_job").append(
                {"run": name, **kept, "graphs": found["graphs"], "launches": found["launches"],
                 "nodes": max(found["nodes"], default=0), "process_seconds": found["seconds"]}
            )  # fmt: skip
    cold, warm, numpy = (runs[name]["histories"][0] for name in ("cold", "warm", "numpy"))
    same = all(a[key] == b[key] for a, b in zip(cold, warm, strict=True) for key in COMPARED)
    first = {key: abs(float(cold[0][key]) / float(numpy[0][key]) - 1) for key in COMPARED}
    speed = {name: float(runs[name]["histories"][0][-1]["names_per_second"]) for name in runs}
    counts = runs["warm"]
    said = (
        f"{counts['launches']} launches of {counts['graphs']} graphs of up to "
        f"{max(counts['nodes'], default=0)} nodes; names a second in the last epoch: "
        f"{', '.join(f'{name} {value:,.0f}' for name, value in speed.items())}; the same bits "
        f"twice: {same}; farthest from NumPy's in the first epoch "
        f"{max(first.values()):.1e} (bound {CLOSE})"
    )
    if not same or not max(first.values()) <= CLOSE or not counts["launches"]:
        raise Missed(said)
    return said


def many_seeds(day: Day, seeds: int, epochs: int, seed: int) -> str:
    """``--seeds`` on the device beside one run: seconds of training after the first epoch."""
    one = train(day, "one seed", "cupy", epochs, seed)
    found = train(day, f"{seeds} seeds", "cupy", epochs, seed, "--seeds", str(seeds))
    if len(found["histories"]) != seeds:
        raise Missed(f"{len(found['histories'])} of {seeds} seeds have a history")
    taken = [training_seconds(run["histories"]) for run in (one, found)]
    ratio = taken[1] / taken[0]
    said = (
        f"epochs 2 to {epochs}: {seeds} seeds {taken[1]:.3f} s, one {taken[0]:.3f} s: {ratio:.2f} "
        f"times (bound {SEEDS_BOUND:g}); whole processes {found['seconds']:.1f} s and "
        f"{one['seconds']:.1f} s"
    )
    if not ratio <= SEEDS_BOUND:
        raise Missed(said)
    return said


def training_seconds(histories: list[list[dict[str, str]]]) -> float:
    """Seconds of all epochs but the first, which compiles and captures.

    Models that train in the same launches have the same seconds, those of all of them.
    """
    seconds = [[float(row["seconds"]) for row in rows[1:]] for rows in histories]
    together = all(one == seconds[0] for one in seconds)
    return sum(map(sum, seconds[:1] if together else seconds))


def benchmark(day: Day, seed: int) -> str:
    """benchmarks/gpu.py on its small case."""
    with tempfile.TemporaryDirectory() as folder:
        script = ROOT / "benchmarks" / "gpu.py"
        command = [sys.executable, script, "--quick", "--no-tests", "--seed", seed, "--out", folder]
        text = day.process("gpu.py", list(map(str, command)), cwd=ROOT)
        shutil.copy(Path(folder) / "gpu.csv", day.out / "gpu.csv")
    day.log("gpu.py", text)
    return f"gpu.csv; {last_line(text)}"
