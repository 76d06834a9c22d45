"""How near a training step is to what this machine can do, and where the rest of the time goes.

The floor of a step is what its mathematics takes at the rates of this machine, measured in the same
process, in turns with the steps:

- every product, at the rate of the BLAS at that very shape (:mod:`passes.step_work` lists them);
- every tanh and sigmoid, at the rate of ``np.tanh`` on a block that stays in the cache;
- every other pass over memory (elementwise chains, gathers, the optimizer), at the rate at which so
  many bytes are copied. A chain counts as one pass, however many it is made of.

The step is the trainer's own, on batches of names as the main job makes them. Its floor is counted
for each batch, and the figures are means over the batches; of each rate and each step the best
measurement counts, and the median of the steps is given beside it.

Where the rest goes is measured too. The same steps run on arrays that time every operation on them
(:mod:`passes.recorder`), so that products, elementwise operations, gathers and the optimizer are
known apart; from each its part of the floor is taken off. What NumPy takes to call an operation,
measured on a single number, counts as the interpreter's, as does all that is between operations: it
is the step's time less that of all the operations.

``--steps T`` takes sequences of T steps each instead of names, of random characters. ``--profile``
prints, besides, the functions of this project in which each step spends most time. On a
``--backend`` other than NumPy the rest is not taken apart.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from passes.gpu_case import CLASSES, VOCABULARY, Case
from passes.roofline_case import BEYOND, Steps, measure
from tqdm import tqdm

from npnlp.backend import Backend, get_backend
from npnlp.cli.options import add_backend
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.errors import InputError
from npnlp.files import write_csv, write_json
from npnlp.layers import CELLS
from npnlp.runs.report import environment
from npnlp.text import SplitArrays, SurnameDataset

#: A step should take no more than so many times its floor.
BOUND = 2.5
#: From these sizes on products decide, and a step should reach this share of their rate.
LARGE_HIDDEN, LARGE_BATCH, SHARE = 256, 64, 0.85
#: Below this share of the time on a core, something else was running.
BUSY = 0.95
QUICK: dict[str, Any] = {"hidden_sizes": [8], "batch_size": 16, "batches": 2, "rounds": 2}
PROFILED, PROFILE_LINES = 10, 20


def parsed() -> argparse.Namespace:
    """The options; ``--quick`` keeps one small size."""
    parser = script_parser(__doc__, "out/roofline")
    add_table(parser)
    add_backend(parser)
    add = parser.add_argument
    add("--cells", nargs="+", choices=sorted(CELLS), default=sorted(CELLS), help="which cells")
    add("--hidden-sizes", type=int, nargs="+", default=[64, 128, 256, 512], metavar="H",
        help="hidden units")  # fmt: skip
    add("--batch-size", type=int, default=64, metavar="B", help="names of a batch")
    add("--batches", type=int, default=6, help="different batches to step on")
    add("--rounds", type=int, default=15, help="measurements of each")
    add("--steps", type=int, metavar="T", help="sequences of T steps each, instead of names")
    add("--profile", action="store_true", help="print the functions that take most time")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    sizes = [options.batch_size, options.batches, options.rounds, *options.hidden_sizes]
    if min([*sizes, options.steps or 1]) < 1:
        parser.error("sizes, --batches and --rounds have to be at least 1")
    return options


def rows_to_learn(options: argparse.Namespace) -> tuple[SplitArrays, dict[str, int]]:
    """The training split, and how many characters and classes there are."""
    if options.steps is not None:
        count = options.batch_size * options.batches
        case = Case("elman", options.steps, count, 1, variable=False)
        return case.split(options.seed), {"characters": VOCABULARY, "classes": CLASSES}
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    known = dataset.get_vectorizer()
    sizes = {"characters": len(known.char_vocab), "classes": len(known.nationality_vocab)}
    return dataset.arrays("train"), sizes


def show(row: dict[str, Any]) -> None:
    """A line for each case: floor, step, ratio, and where the rest goes."""
    parts = {part.replace("_", " "): row[f"beyond_{part}_us"] for part in BEYOND}
    rest = ", ".join(f"{part} {us:.0f}" for part, us in parts.items() if us is not None)
    tqdm.write(
        f"{row['cell']:<6}{row['H']:>4}{row['floor_us']:>10.0f}{row['step_us']:>10.0f}"
        f"{row['step_median_us']:>10.0f}{row['ratio']:>7.2f}{row['ratio_of_median']:>8.2f}"
        f"{100 * row['sgemm_share']:>8.0f} %  {rest}"
    )


def verdicts(rows: list[dict[str, Any]]) -> None:
    """Each bound, and the cases that are farthest from it; whether the machine was busy."""
    share = min(row["cpu_share"] for row in rows)
    if share < BUSY:
        print(f"the machine was busy: in a round the process had a core for only {100 * share:.0f} "
              "% of the time, and what a step takes beyond its floor is too much")  # fmt: skip
    worst = max(rows, key=lambda row: row["ratio"])
    print(f"at most {worst['ratio']:.2f} times the floor, at {worst['cell']} {worst['H']}; "
          f"the bound is {BOUND}")  # fmt: skip
    large = [row for row in rows if row["H"] >= LARGE_HIDDEN and row["B"] >= LARGE_BATCH]
    if large:
        least = min(large, key=lambda row: row["sgemm_share"])
        print(f"H >= {LARGE_HIDDEN} and B >= {LARGE_BATCH}: at least "
              f"{100 * least['sgemm_share']:.0f} % of the product rate, at {least['cell']} "
              f"{least['H']}; the bound is {100 * SHARE:.0f} %")  # fmt: skip


def main() -> int:
    """Measure, print, write and draw."""
    options = parsed()
    backend = get_backend(options.backend)
    if backend.xp is not np:
        raise InputError(f"backend {backend.name} is not on the CPU; see benchmarks/gpu.py")
    split, sizes = rows_to_learn(options)
    cases = [(cell, hidden) for cell in options.cells for hidden in options.hidden_sizes]
    rows: list[dict[str, Any]] = []
    tqdm.write("microseconds of a step; beyond the floor, by what takes them\n"
               f"{'cell':<6}{'H':>4}{'floor':>10}{'step':>10}{'median':>10}{'ratio':>7}"
               f"{'median':>8}{'of sgemm':>10}  beyond the floor")  # fmt: skip
    for cell, hidden in tqdm(cases, unit="case", disable=None):

        def make(backend: Backend, cell: str = cell, hidden: int = hidden) -> Steps:
            return Steps(split, sizes, cell, hidden, options.batch_size, options.batches,
                         options.seed, backend)  # fmt: skip

        rows.append(measure(make, cell, hidden, options.rounds, options.seed, backend))
        show(rows[-1])
        if options.profile:
            for line in make(backend).profile(PROFILED, PROFILE_LINES):
                tqdm.write(line)
    verdicts(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "roofline.csv", rows)
    write_json(options.out / "environment.json", environment(backend))
    return 0


if __name__ == "__main__":
    sys.exit(guarded("roofline.py", main))
