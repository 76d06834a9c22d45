"""How many steps back a recurrent network remembers, on tasks where nothing else helps.

Each recipe (a cell, its nonlinearity and its first weights) is trained on each task at each length
until it has solved the task or the budget of updates is used up. Its memory horizon is the largest
length that most seeds have solved.
"""

from __future__ import annotations

import itertools
import sys
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from npnlp import plots
from npnlp.backend import get_backend
from npnlp.cli.script import guarded, script_parser
from npnlp.files import write_csv
from npnlp.tasks import TASKS
from npnlp.training.lab import RECIPES, LabConfig, horizons, train_on, verdict

QUICK: dict[str, Any] = {
    "tasks": ["adding", "first_token"], "cells": ["tanh", "irnn"], "lengths": [5, 10], "seeds": 2,
    "budget": 400, "batch_size": 16, "hidden_size": 32,
}  # fmt: skip
LOOKS = [
    (plots.BLUE, "-", "o"), (plots.VERMILION, "--", "s"), (plots.GREEN, "-.", "^"),
    (plots.ORANGE, ":", "D"), (plots.PURPLE, (0, (5, 1)), "v"), (plots.SKY, (0, (3, 1, 1, 1)), "P"),
]  # fmt: skip
#: A loss above this many baselines is drawn here.
TOP = 1.3


def draw(runs_csv: Path, sentence: str, path: Path) -> None:
    """Loss over baseline against T, a panel a task, a line a recipe: the median of the seeds."""
    runs = pd.read_csv(runs_csv)
    runs["ratio"] = (runs["loss"] / runs["baseline"]).clip(upper=TOP)
    tasks, lengths = list(runs["task"].unique()), sorted(runs["T"].unique())
    columns = min(2, len(tasks))
    lines = -(-len(tasks) // columns)
    with plots.picture(path, width=7 * columns, height=4.5 * lines + 1.5) as figure:
        panels = figure.subplots(lines, columns, squeeze=False, sharey=True).reshape(-1)
        for axes, task in zip(panels, tasks, strict=False):
            of_task = runs[runs["task"] == task]
            for place, recipe in enumerate(runs["recipe"].unique()):
                colour, style, marker = LOOKS[place % len(LOOKS)]
                found = of_task[of_task["recipe"] == recipe].groupby("T")["ratio"]
                axes.fill_between(found.min().index, found.min(), found.max(), color=colour,
                                  alpha=0.15, linewidth=0)  # fmt: skip
                axes.plot(found.median(), color=colour, linestyle=style, marker=marker,
                          markersize=8, label=recipe)  # fmt: skip
            axes.axhline(1, color=plots.BLACK, linewidth=1, linestyle=":", label="no memory")
            axes.set_xscale("log")
            axes.set_xticks(lengths, [str(length) for length in lengths])
            axes.set_xticks([], minor=True)
            axes.set(title=task.replace("_", " "), xlabel="length T (steps, log scale)",
                     ylabel=f"loss / baseline (at most {TOP})", ylim=(0, 1.05 * TOP))  # fmt: skip
        for axes in panels[len(tasks) :]:
            axes.set_visible(False)
        panels[0].legend()
        figure.suptitle("How far back it remembers (line: median of the seeds, band: range)")
        figure.supxlabel("\n".join(textwrap.wrap(sentence, 55 * columns)), fontsize=13)


def main() -> int:
    """Train every combination, print the horizons, write CSV and a picture."""
    parser = script_parser(__doc__, "out/long_term_dependencies")
    usual = LabConfig()
    add = parser.add_argument
    add("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), help="what to remember")
    add("--cells", nargs="+", choices=list(RECIPES), default=list(RECIPES),
        help="recipes: a cell, its nonlinearity and its first weights")  # fmt: skip
    add("--lengths", nargs="+", type=int, default=[10, 20, 50, 100, 200], metavar="T",
        help="lengths to try")  # fmt: skip
    add("--budget", type=int, default=usual.budget, metavar="N", help="the most updates of a run")
    add("--seeds", type=int, default=3, metavar="N", help="how many")
    add("--batch-size", type=int, default=usual.batch_size, metavar="B", help="sequences a batch")
    add("--hidden-size", type=int, default=usual.hidden_size, metavar="H", help="hidden units")
    add("--learning-rate", type=float, default=usual.learning_rate, metavar="X", help="of Adam")
    add("--clip-norm", type=float, default=usual.clip_norm, metavar="X",
        help="the longest gradient, all parameters together")  # fmt: skip
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}; give at least 1")
    if options.quick:
        vars(options).update(QUICK)
    config = LabConfig(
        budget=options.budget,
        batch_size=options.batch_size,
        hidden_size=options.hidden_size,
        learning_rate=options.learning_rate,
        clip_norm=options.clip_norm,
    )
    seeds = range(options.seed, options.seed + options.seeds)
    lengths = sorted(set(options.lengths))
    for task, length in itertools.product(options.tasks, lengths):
        TASKS[task].require(length)
    options.out.mkdir(parents=True, exist_ok=True)
    runs = list(itertools.product(options.tasks, options.cells, lengths, seeds))
    rows, backend = [], get_backend("numpy")
    with tqdm(runs, unit="run", disable=None) as bar:
        for task, recipe, length, seed in bar:

            def on_check(steps: int, loss: float, name: str = f"{task} {recipe} {length}") -> None:
                bar.set_postfix_str(f"{name}: step {steps}, loss {loss:.4f}")

            rows.append(train_on(task, length, seed, config, backend, recipe, on_check))
            write_csv(options.out / "long_term_dependencies.csv", rows)
    table = horizons(rows)
    write_csv(options.out / "memory_horizons.csv", table)
    print(f"memory horizon, {len(seeds)} seeds, at most {config.budget} updates:")
    for row in table:
        print(f"  {row['task']:<16}{row['recipe']:<12}{row['horizon']:>5} of {row['largest']}")
    sentence = verdict(table)
    picture = options.out / "long_term_dependencies.png"
    draw(options.out / "long_term_dependencies.csv", sentence, picture)
    print(sentence)
    return 0


if __name__ == "__main__":
    sys.exit(guarded("long_term_dependencies.py", main))
