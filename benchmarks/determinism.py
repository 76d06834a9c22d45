"""How far the same command differs from itself: threads, kernels, and versions of NumPy.

``npnlp train`` runs as a process of its own in each of several surroundings, for one epoch and to
its end. The first surroundings come twice, and there the files have to be the same, times aside.
A difference of weights is the largest of any weight, over the largest weight of its tensor.
OpenBLAS takes another kernel only if the processor has it: which one it took is in the table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tqdm import tqdm

from npnlp.backend.threads import THREAD_VARIABLES
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.errors import InputError
from npnlp.files import write_csv
from npnlp.files.tensors import load_tensors
from npnlp.runs.fingerprint import fingerprints
from npnlp.text import read_table

#: Kernels of OpenBLAS to ask for, besides the processor's own; another architecture has others.
KERNELS = ("Haswell", "Sandybridge", "Nehalem", "Prescott")
QUICK = ("--batch-size", "16", "--rnn-hidden-size", "8")


def surroundings(quick: bool) -> dict[str, dict[str, str]]:
    """Variables of the environment, by name; those of the reference are none."""
    plain = plain_loops()
    few = {"the same again": {}, "NumPy's own loops without extensions": plain}
    kernels = {f"kernels of {kernel}": {"OPENBLAS_CORETYPE": kernel} for kernel in KERNELS}
    both = {"both without extensions": plain | {"OPENBLAS_CORETYPE": "Prescott"}}
    threads = {"2 threads": {"OPENBLAS_NUM_THREADS": "2"}}
    haswell = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "2"}
    return few if quick else {
        **few, **kernels, **both, **threads, "kernels of Haswell, 2 threads": haswell,
    }  # fmt: skip


def plain_loops() -> dict[str, str]:
    """NumPy told to leave the processor's extensions alone, as far as it can be told."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return {"NPY_DISABLE_CPU_FEATURES": " ".join(found)}


def train(
    folder: Path, python: str, variables: Mapping[str, str], options: Iterable[str]
) -> dict[str, Any]:
    """Run the command; its fingerprints, last weights and metrics."""
    bare = {name: value for name, value in os.environ.items() if name not in THREAD_VARIABLES}
    done = subprocess.run(
        [python, "-W", "ignore", "-m", "npnlp", "train", "--quiet", "--save-dir", folder, *options],
        env={**bare, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise InputError(f"{python} -m npnlp train: {done.stderr.strip()}")
    tensors, values = load_tensors(folder / "last.safetensors", "npnlp checkpoint")
    model, _ = load_tensors(folder / "model.safetensors", "npnlp classifier")
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    return {
        "files": fingerprints(folder),
        "weights": {n: v for n, v in tensors.items() if n.startswith("model.")},
        "model": model,
        "epochs": values["state"]["progress"]["epoch"],
        "accuracy": metrics["test"]["accuracy"],
        "environment": metrics["environment"],
    }


def difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    """The largest difference of a weight, over the largest of its tensor in ``first``."""
    return max(
        float(abs(value - second[name]).max() / max(abs(value).max(), 1e-30))
        for name, value in first.items()
    )


def compare(reference: list[dict[str, Any]], found: list[dict[str, Any]]) -> dict[str, Any]:
    """How far the run of one epoch and the whole one differ from the reference's."""
    (short, whole), (first, last) = found, reference
    same = sum(whole["files"][name] == value for name, value in last["files"].items())
    epochs = f"{last['epochs']} and {whole['epochs']}"
    return {
        "numpy": whole["environment"]["numpy"],
        "blas": whole["environment"]["blas"],
        "files": len(last["files"]),
        "same_files": same,
        "after_one_epoch": difference(first["weights"], short["weights"]),
        "epochs": epochs if last["epochs"] != whole["epochs"] else str(whole["epochs"]),
        "at_the_end": difference(last["model"], whole["model"]),
        "accuracy": whole["accuracy"],
        "accuracy_difference": whole["accuracy"] - last["accuracy"],
    }


def measure(options: Any, work: Path) -> list[dict[str, Any]]:
    """A row for each of the surroundings and seeds."""
    course = [*(QUICK if options.quick else ())]
    ends = ("1", "2" if options.quick else str(options.num_epochs))
    places = [(name, sys.executable, asked) for name, asked in surroundings(options.quick).items()]
    places += [(f"another NumPy, {n + 1}", python, {}) for n, python in enumerate(options.python)]
    seeds = range(options.seed, options.seed + (1 if options.quick else options.seeds))
    rows = []
    with tqdm(total=len(seeds) * (len(places) + 1), unit="run", disable=None) as bar:

        def both(python: str, asked: Mapping[str, str], seed: int) -> list[dict[str, Any]]:
            found = []
            for end in ends:
                folder = work / str(bar.n) / end
                table = ("--surname-csv", str(options.surname_csv))
                given = (*table, *course, "--num-epochs", end, "--seed", str(seed))
                found.append(train(folder, python, asked, given))
            bar.update()
            return found

        for seed in seeds:
            reference = both(sys.executable, {}, seed)
            for name, python, asked in places:
                rows.append({"surroundings": name, "seed": seed,
                             **compare(reference, both(python, asked, seed))})  # fmt: skip
    return rows


def main() -> int:
    """Measure, print and write; status 1 where the same command gave other files."""
    parser = script_parser(__doc__, "out/determinism")
    add_table(parser)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--num-epochs", type=int, default=20, help="of a whole run, at most")
    parser.add_argument("--python", nargs="*", default=[], metavar="FILE",
                        help="interpreters with another NumPy")  # fmt: skip
    options = parser.parse_args()
    read_table(options.surname_csv)
    with TemporaryDirectory() as work:
        rows = measure(options, Path(work))
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "determinism.csv", rows)
    for row in rows:
        print(f"{row['surroundings']} (seed {row['seed']}): {row['same_files']} of {row['files']} "
              f"files the same; weights {row['after_one_epoch']:.1e} after an epoch, "
              f"{row['at_the_end']:.1e} at the end; accuracy {row['accuracy_difference']:+.4f}; "
              f"{row['blas']}")  # fmt: skip
    again = [row for row in rows if row["surroundings"] == "the same again"]
    return 0 if all(row["same_files"] == row["files"] for row in again) else 1


if __name__ == "__main__":
    sys.exit(guarded("determinism.py", main))
