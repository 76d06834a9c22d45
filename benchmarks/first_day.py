"""What only a CUDA device can tell of this project, in order of what a failure would cost.

One command for the first minutes on a device, in under nine of them. Each part prints a line as it
ends: whether the device answers; every recurrence kernel at its sizes beside NumPy; a capture, and
whether memory comes back; the tests of captured steps and kernels; the main job twice and with
NumPy; the step at the book's sizes beside PyTorch; many seeds at once; all other tests marked
``gpu``; and ``gpu.py`` on its small case. A part that fails is told, and the next goes on; a part
that there is no time for is left out, and says so. All that is known is written after every part:
``parts.csv``, a table for what a part measures, ``environment.json``, and ``log.txt`` with what
does not fit a line.

It needs the repository itself, for its tests, and an environment with ``pip install
'.[cuda13,test]'`` (or ``cuda12``); with a PyTorch that has CUDA it compares with that too. Status:
0 where no part failed, 1 where one did, 2 without a device.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from passes import day_kernels, day_runs
from passes.day import Day, Part
from passes.day_torch import against_torch
from passes.gpu_case import event_clock

from npnlp.backend import Backend
from npnlp.backend.cuda.backend import CupyBackend
from npnlp.cli.failure import DONE, FAILED
from npnlp.cli.script import guarded, script_parser
from npnlp.files import write_json
from npnlp.runs.report import environment

SEEDS, QUICK_SEEDS = 64, 3


def parsed() -> argparse.Namespace:
    """The options; ``--quick`` takes small kernels, and no tests."""
    parser = script_parser(__doc__, "out/first_day")
    add = parser.add_argument
    add("--minutes", type=float, default=9, help="for the whole; later parts are left out")
    add("--workers", type=int, default=8, help="processes of each run of the tests")
    options = parser.parse_args()
    if not options.minutes > 0 or options.workers < 1:
        parser.error("--minutes has to be above 0, and --workers at least 1")
    return options


def parts(options: argparse.Namespace, backend: Backend) -> list[Part]:
    """All parts: the seconds that each needs at least and may take at most."""
    seed, quick = options.seed, options.quick
    clock = event_clock(backend)
    design = list(day_kernels.of_quick(day_kernels.DESIGN, quick))
    epochs, rounds = (2, 3) if quick else (5, 50)
    batches = day_kernels.BATCHES[: 1 if quick else None]
    seeds = QUICK_SEEDS if quick else SEEDS
    memory = (day_kernels.QUICK_TRAINERS, day_kernels.QUICK_CASE) if quick else ()
    used = day_kernels.used_memory(backend)
    first, run_tests = day_runs.FIRST_TESTS, partial(day_runs.run_tests, workers=options.workers)
    found = [
        Part("0 the device", 0, 20, lambda day: day_kernels.cublas_answers(backend)),
        Part("1 recurrences", 5, 150,
             lambda day: day_kernels.recurrences(day, backend, clock, seed, design, batches)),
        Part("2 capture", 5, 20, lambda day: day_kernels.captured(backend)),
        Part("2 memory", 10, 40,
             lambda day: day_kernels.memory_comes_back(backend, seed, used, *memory)),
        Part("3 tests of kernels", 20, 150, lambda day: run_tests(day, first, ())),
        Part("4 main job", 20, 120, lambda day: day_runs.main_job(day, epochs, seed)),
        Part("5 PyTorch", 10, 60,
             lambda day: against_torch(day, backend, clock, seed, rounds)),
        Part("6 many seeds", 30, 120,
             lambda day: day_runs.many_seeds(day, seeds, epochs, seed)),
        Part("7 other tests", 30, 150, lambda day: run_tests(day, ["tests"], first)),
        Part("8 gpu.py", 20, 90, lambda day: day_runs.benchmark(day, seed)),
    ]  # fmt: skip
    return [part for part in found if not quick or "tests" not in part.name]


def main() -> int:
    """Run the parts, and say at the end what failed."""
    options = parsed()
    backend = CupyBackend()
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "environment.json", environment(backend))
    day = Day(options.out, 60 * options.minutes)
    passed = day.run(parts(options, backend))
    told = {row["part"]: row["passed"] for row in day.rows}
    for word, said in (("no", "failed"), ("left out", "left out")):
        names = [name for name, found in told.items() if found == word]
        if names:
            print(f"{said}: {', '.join(names)}")
    return DONE if passed else FAILED


if __name__ == "__main__":
    sys.exit(guarded("first_day.py", main))
