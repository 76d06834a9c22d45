"""What a recipe costs: an epoch at 10,000 and at 100,000 rows, and the memory of one long name.

An epoch is in seconds of processor time, one core, each backend in a process of its own; the
processes take turns, some batches each. With ``--base PYTHON``, the interpreter of another
environment with another version of npnlp, that takes turns too, and the table has the ratio to it
with quartiles. Memory is the most that ``npnlp train`` holds in an epoch with a name of 10,000
letters among those of train, over that without it; and ``npnlp predict`` of a file of all names.
"""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import string
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from passes.names import labelled

from npnlp.backend import get_backend
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.errors import InputError
from npnlp.files import write_csv, write_json
from npnlp.runs.report import environment
from npnlp.training.recipes import RECIPES

LONG = 10_000
COLUMNS = ["nationality", "split", "surname"]
HERE = Path(__file__).parent


def one_core() -> dict[str, str]:
    """The environment of a process on one core, with this folder's modules."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS_")}
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    return own | one | {"PYTHONPATH": str(HERE)}


def larger(table: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """A table of so many made rows, 70 of 100 in train."""
    pairs = list(zip(table["nationality"], table["surname"], strict=True))
    made = pd.DataFrame(labelled(pairs, rows, seed), columns=["nationality", "surname"])
    made["split"] = random.Random(seed).choices(["train", "val", "test"], [70, 15, 15], k=rows)
    return made


def epochs(
    pythons: dict[str, str], recipe: str, csv: Path, rows: int, backends: Sequence[str],
    options: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each backend and environment, the base first."""
    script = str(HERE / "passes" / "recipe_case.py")
    found: list[dict[str, Any]] = []
    for backend in backends:
        arguments = [script, recipe, str(csv), backend, str(options.seed)]
        running = {
            name: subprocess.Popen([python, *arguments], env=one_core(), text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for name, python in pythons.items()
        }  # fmt: skip
        about = {name: json.loads(_said(process)) for name, process in running.items()}
        seconds: dict[str, list[float]] = {name: [] for name in running}
        for _ in range(options.rounds):
            for name, process in running.items():
                assert process.stdin is not None
                process.stdin.write(f"{options.batches}\n")
                process.stdin.flush()
                seconds[name].append(float(_said(process)))
        for process in running.values():
            process.communicate()
        first = np.array(next(iter(seconds.values())))
        for name, taken in seconds.items():
            low, median, high = np.percentile(first / np.array(taken), [25, 50, 75]).tolist()
            found.append({
                "recipe": recipe, "table_rows": rows, "backend": backend, "version": name,
                **about[name], "epoch_seconds": statistics.median(taken),
                "ratio": median, "ratio_q25": low, "ratio_q75": high,
            })  # fmt: skip
            print(
                f"{rows:>9,} rows  {backend:<6} {name:<5} {statistics.median(taken):>8.2f} s an "
                f"epoch  {median:.2f} times ({low:.2f} to {high:.2f})",
                flush=True,
            )
    return found


def _said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise InputError("the measurement of an epoch ended; its message stands above")
    return line


def most_memory(python: str, *arguments: str) -> int:
    """The most memory of ``npnlp`` with these arguments, in bytes."""
    child = os.posix_spawn(
        python, [python, "-m", "npnlp", *arguments], one_core(),
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )  # fmt: skip
    _, status, used = os.wait4(child, 0)
    if status:
        raise InputError(f"npnlp {' '.join(arguments)}: it failed; its message stands above")
    usage: resource.struct_rusage = used
    return usage.ru_maxrss * 1024


def memory(table: pd.DataFrame, ways: dict[str, list[str]], folder: Path) -> list[dict[str, Any]]:
    """A row for each way to train: with the long name, and without."""
    letters = "".join(random.Random(0).choices(string.ascii_lowercase, k=LONG)).title()
    long = pd.DataFrame([[table["nationality"].iloc[0], "train", letters]], columns=COLUMNS)
    tables = {"without": table, "with": pd.concat([table, long])}
    for name, rows in tables.items():
        rows.to_csv(folder / f"{name}.csv", index=False)
        (folder / f"{name}.txt").write_text("\n".join(rows["surname"]) + "\n", "utf-8")
    found = []
    for way, options in ways.items():
        held: dict[str, dict[str, int]] = {"train": {}, "predict": {}}
        for name in tables:
            run = str(folder / f"{name} {way}")
            held["train"][name] = most_memory(
                sys.executable, "train", "--surname-csv", str(folder / f"{name}.csv"),
                "--save-dir", run, "--num-epochs", "1", "--quiet", "--no-pictures", *options,
            )  # fmt: skip
        for name in tables:
            held["predict"][name] = most_memory(
                sys.executable, "predict", "--save-dir", str(folder / f"without {way}"),
                "--input", str(folder / f"{name}.txt"), "--output", str(folder / "answers"),
            )  # fmt: skip
        for command, used in held.items():
            ratio = used["with"] / used["without"]
            found.append({"way": way, "command": command, "without_bytes": used["without"],
                          "with_bytes": used["with"], "ratio": ratio})  # fmt: skip
            print(f"{way:<22} {command:<8} {used['without'] / 2**20:>6.0f} MB, with a long name "
                  f"{used['with'] / 2**20:>6.0f} MB: {ratio:.2f} times", flush=True)  # fmt: skip
    return found


def main() -> int:
    """Measure, print and write."""
    parser = script_parser(__doc__, "out/recipe")
    add_table(parser)
    add = parser.add_argument
    add("--recipe", choices=list(RECIPES), default="wide", help="which")
    add("--backends", nargs="+", default=["numpy", "numba"], help="which backends")
    add("--rows", type=int, nargs="+", default=[100_000], metavar="N",
        help="sizes of made tables, beside the table itself")  # fmt: skip
    add("--rounds", type=int, default=9, help="turns of each process")
    add("--batches", type=int, default=20, help="batches in a turn")
    add("--base", metavar="PYTHON", help="interpreter of an environment to compare with")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.batches, options.rows, options.backends = 1, 2, [], ["numpy"]
    if min(options.rounds, options.batches) < 1:
        parser.error("--rounds and --batches have to be at least 1")
    pythons = ({"base": options.base} if options.base else {}) | {"this": sys.executable}
    table = pd.read_csv(options.surname_csv, keep_default_na=False)[COLUMNS]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in (len(table), *options.rows):
            made = table if size == len(table) else larger(table, size, options.seed)
            made.to_csv(folder / "table.csv", index=False)
            csv = folder / "table.csv"
            rows += epochs(pythons, options.recipe, csv, size, options.backends, options)
        ways = {options.recipe: ["--recipe", options.recipe]}
        if not options.quick:
            ways |= {
                "transformer, mean": ["--cell", "transformer", "--pooling", "mean"],
                "lstm, attention": ["--cell", "lstm", "--pooling", "attention"],
                "elman, max": ["--pooling", "max"],
            }
        held = memory(table, ways, folder)
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "recipe_epochs.csv", rows)
    write_csv(options.out / "recipe_memory.csv", held)
    write_json(options.out / "environment.json", environment(get_backend()))
    return 0


if __name__ == "__main__":
    sys.exit(guarded("recipe.py", main))
