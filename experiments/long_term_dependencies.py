"""How many steps back a recurrent network remembers, what cures it, and why.

Each variant (a cell, its first values, what is read of its states) is trained on each task at each
length until it has solved the task or the budget of updates is used up. Its memory horizon is the
largest length that most seeds have solved. Then the way back is measured: the gradient that reaches
each step and the singular values of the Jacobians between, before and after training.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from npnlp.backend import get_backend
from npnlp.cli.pictures import add_format, add_language, output_of
from npnlp.cli.script import guarded, script_parser
from npnlp.files import write_csv
from npnlp.lab.cures import answer, cures
from npnlp.lab.pictures import cures as pictures
from npnlp.lab.tasks import TASKS
from npnlp.lab.trial import LabConfig, horizons, outcome, train_on, verdict
from npnlp.lab.variants import VARIANTS

QUICK: dict[str, Any] = {
    "tasks": ["adding", "first_token"], "cells": ["tanh", "gru", "attention"], "lengths": [5, 10],
    "seeds": 2, "budget": 300, "batch_size": 16, "hidden_size": 24, "look": 10,
    "look_cells": ["tanh", "lstm", "attention"],
}  # fmt: skip
TASK_OF_LOOK = "adding"
LOOKED_AT = ["tanh", "irnn", "lstm", "gru", "gru-chrono", "attention"]


def plan(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """The pairs of task and variant that fit, in order; says which do not."""
    for task in options.tasks:
        for variant in options.cells:
            reason = VARIANTS[variant].mismatch(TASKS[task])
            if reason is None:
                yield task, variant
            else:
                print(f"{variant} is left out: {reason}")


def train_all(
    options: argparse.Namespace, config: LabConfig, lengths: Sequence[int], path: Path
) -> list[dict[str, Any]]:
    """A row a run, also in ``path``; what it holds already is kept with ``--resume``."""
    rows: list[dict[str, Any]] = []
    if options.resume and path.exists():
        rows = [{str(k): v for k, v in row.items()} for row in pd.read_csv(path).to_dict("records")]
    done = {(row["task"], row["recipe"], row["T"], row["seed"]): row for row in rows}
    seeds, backend = range(options.seed, options.seed + options.seeds), get_backend("numpy")
    pairs = list(plan(options))
    with tqdm(total=len(pairs) * len(lengths), unit="length", disable=None) as bar:
        for task, variant in pairs:
            for tried, length in enumerate(lengths):
                solved: list[bool] = []

                def on_check(
                    steps: int, loss: float, name: str = f"{task} {variant} {length}"
                ) -> None:
                    bar.set_postfix_str(f"{name}: step {steps}, loss {loss:.4f}")

                for seed in seeds:
                    row = done.get((task, variant, length, seed))
                    if row is None:
                        if not options.every_seed and outcome(solved, len(seeds)) is not None:
                            break
                        row = train_on(task, length, seed, config, backend, variant)
                        rows.append(row)
                        write_csv(path, rows)
                    solved.append(bool(row["solved"]))
                bar.update()
                if not (options.all_lengths or outcome(solved, len(seeds))):
                    bar.update(len(lengths) - tried - 1)
                    break
    tasks, variants = list(TASKS), list(VARIANTS)
    rows.sort(key=lambda row: (
        tasks.index(row["task"]), variants.index(row["recipe"]), row["T"], row["seed"]
    ))  # fmt: skip
    write_csv(path, rows)
    return rows


def options_of(usual: LabConfig) -> argparse.Namespace:
    """What was asked for."""
    parser = script_parser(__doc__, "out/long_term_dependencies")
    add_format(parser)
    add_language(parser)
    add = parser.add_argument
    add("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), help="what to remember")
    add("--cells", nargs="+", choices=list(VARIANTS), default=list(VARIANTS),
        help="variants: a cell, its first values, what is read of its states")  # fmt: skip
    add("--lengths", nargs="+", type=int, default=[10, 20, 50, 100, 200, 500], metavar="T",
        help="lengths to try; a variant ends with the first it fails in most seeds")  # fmt: skip
    add("--all-lengths", action="store_true", help="do not stop there")
    add("--every-seed", action="store_true",
        help="run the last seeds, too, where the first have decided")  # fmt: skip
    add("--budget", type=int, default=usual.budget, metavar="N", help="the most updates of a run")
    add("--seeds", type=int, default=3, metavar="N", help="how many")
    add("--batch-size", type=int, default=usual.batch_size, metavar="B", help="sequences a batch")
    add("--hidden-size", type=int, default=usual.hidden_size, metavar="H", help="hidden units")
    add("--learning-rate", type=float, default=usual.learning_rate, metavar="X",
        help="of Adam, for variants that do not bring their own")  # fmt: skip
    add("--clip-norm", type=float, default=usual.clip_norm, metavar="X",
        help="the longest gradient, all parameters together")  # fmt: skip
    add("--look", type=int, default=100, metavar="T",
        help=f"the length of {TASK_OF_LOOK} to look at Jacobians at; 0: do not")  # fmt: skip
    add("--look-cells", nargs="+", choices=list(VARIANTS), default=LOOKED_AT,
        help="variants to look at")  # fmt: skip
    add("--resume", action="store_true", help="keep the runs that --out holds already")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}; give at least 1")
    if options.quick:
        vars(options).update(QUICK)
    return options


def main() -> int:
    """Train every combination, print the horizons, look at the Jacobians; CSV and pictures."""
    options = options_of(LabConfig())
    config = LabConfig(
        budget=options.budget,
        batch_size=options.batch_size,
        hidden_size=options.hidden_size,
        learning_rate=options.learning_rate,
        clip_norm=options.clip_norm,
    )
    lengths, out, output = (
        sorted(set(options.lengths)),
        options.out,
        output_of(options, options.out),
    )
    for task in options.tasks:
        TASKS[task].require(lengths[0])
    out.mkdir(parents=True, exist_ok=True)
    rows = train_all(options, config, lengths, out / "long_term_dependencies.csv")
    table = horizons(rows)
    write_csv(out / "memory_horizons.csv", table)
    print(f"memory horizon, {options.seeds} seeds, at most {config.budget} updates:")
    for row in table:
        print(f"  {row['task']:<16}{row['recipe']:<15}{row['horizon']:>5} of {lengths[-1]}")
    pictures.horizons(
        out / "long_term_dependencies.csv", output.path("long_term_dependencies"), output.language
    )
    print(verdict(table))
    print(answer(table))
    if options.look:
        backend, seed = get_backend("numpy"), options.seed
        looked = cures(TASK_OF_LOOK, options.look, seed, options.look_cells, config, backend)
        write_csv(out / "cures_jacobians.csv", looked)
        pictures.jacobians(
            out / "cures_jacobians.csv", output.path("cures_jacobians"), output.language
        )
    return 0


if __name__ == "__main__":
    sys.exit(guarded("long_term_dependencies.py", main))
