"""This project on a CUDA device against PyTorch's cuDNN, and against what the device allows.

One command: it runs the tests that need a device, and then measures in this process, with warm-up,
CUDA events and medians, every way taking its turn in each round: this project's kernels (the step
of training captured as one graph, and launched kernel by kernel) and its array calls; PyTorch's
RNN, GRU and LSTM, eager and captured in a CUDA graph, with TF32 off and on; and the per-step loop
of the book's notebook. Passes: forward, forward and backward, and the whole step of training;
sequences all T long, and of lengths between 1 and T. Beside each stands the floor from bytes,
operations and a measured barrier. Without a device it ends with status 2.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from passes.gpu_case import PASSES, Case, Clock, Way, cases, event_clock, measure, quartiles
from passes.gpu_floor import GATES, Rates, floor_ms, measured_rates
from passes.gpu_ours import our_captured_way, our_way
from passes.gpu_picture import draw
from tqdm import tqdm

from npnlp.backend import Backend
from npnlp.backend.cuda.backend import CupyBackend
from npnlp.cli.failure import FAILED
from npnlp.cli.pictures import add_format, output_of
from npnlp.cli.script import guarded, script_parser
from npnlp.errors import InputError
from npnlp.files import write_csv, write_json
from npnlp.optional import needs
from npnlp.runs.report import environment

ROOT = Path(__file__).resolve().parents[1]
QUICK = {"lengths": [19], "batch_sizes": [64], "hidden_sizes": [64], "rounds": 3}
Makers = Iterator[tuple[str, Callable[[], Way]]]


def parsed() -> argparse.Namespace:
    """The options; ``--quick`` keeps the book's sizes alone."""
    parser = script_parser(__doc__, "out/gpu")
    add_format(parser)
    add = parser.add_argument
    add("--cells", nargs="+", choices=sorted(GATES), default=sorted(GATES), help="which cells")
    add("--lengths", type=int, nargs="+", default=[19, 128, 1024], metavar="T", help="steps")
    add("--batch-sizes", type=int, nargs="+", default=[16, 64, 256], metavar="B", help="sequences")
    add("--hidden-sizes", type=int, nargs="+", default=[64, 128, 256, 512, 1024], metavar="H",
        help="hidden units")  # fmt: skip
    add("--rounds", type=int, default=20, help="measurements of each")
    add("--no-tests", action="store_true", help="measure only; do not run the gpu tests first")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    if min([options.rounds, *options.lengths, *options.batch_sizes, *options.hidden_sizes]) < 1:
        parser.error("sizes and --rounds have to be at least 1")
    return options


def gpu_tests_pass() -> bool:
    """Run the tests marked ``gpu``, in a process of their own; their output is shown."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(ROOT / "tests")]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def makers(case: Case, seed: int, kernels: Backend, calls: Backend, with_torch: bool) -> Makers:
    """Every way by name, and what makes it."""
    yield "npnlp, graph", lambda: our_captured_way(case, seed, kernels)
    yield "npnlp, kernels", lambda: our_way(case, seed, kernels)
    yield "npnlp, array calls", lambda: our_way(case, seed, calls)
    if with_torch:
        from passes.gpu_torch import torch_ways

        yield from torch_ways(case, seed)


def rows_of(
    case: Case, seed: int, found: Makers, clock: Clock, rounds: int, rates: Rates
) -> Iterator[dict[str, Any]]:
    """A row for each way and pass of a case; a way that needs too much memory is said and left."""
    ways: dict[str, Way] = {}
    for name, make in found:
        try:
            ways[name] = make()
            for call in ways[name].values():
                clock(call)
        except InputError as error:
            tqdm.write(f"{case.described}: {name} is left out: {error}")
        except (MemoryError, RuntimeError) as error:
            if "out of memory" not in str(error).lower():
                raise
            ways.pop(name, None)
            tqdm.write(f"{case.described}: {name} is left out: out of memory")
    for way, name, milliseconds in measure(ways, clock, rounds):
        floor = floor_ms(case, seed, name, rates)
        taken = quartiles(milliseconds)
        yield {
            **case.described, "pass": name, "way": way, "rounds": rounds, **taken,
            "floor_ms": floor, "over_floor": taken["ms"] / floor,
        }  # fmt: skip


def show(rows: list[dict[str, Any]]) -> None:
    """A line for each case and pass: the medians of all ways."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("cell", "lengths", "T", "B", "H", "pass"))
        groups.setdefault(key, []).append(row)
    for key, of_case in groups.items():
        told = "; ".join(f"{row['way']} {row['ms']:.3f}" for row in of_case)
        print(f"{' '.join(map(str, key))}: ms {told}; floor {of_case[0]['floor_ms']:.3f}")


def main() -> int:
    """Test, measure, print, write and draw."""
    options = parsed()
    kernels, calls = CupyBackend(), CupyBackend(fused=False)
    if not options.no_tests and not gpu_tests_pass():
        print("gpu.py: a gpu test failed; nothing was measured", file=sys.stderr)
        return FAILED
    described: dict[str, Any] = dict(environment(kernels))
    with_torch = False
    try:
        with needs("PyTorch's ways are left out", "torch"):
            import torch

            with_torch = torch.cuda.is_available()
        described |= {"torch": torch.__version__, "cudnn": str(torch.backends.cudnn.version())}
        if not with_torch:
            print("PyTorch's ways are left out: this torch has no CUDA device")
    except InputError as error:
        print(error)
    clock = event_clock(kernels)
    rates = measured_rates(kernels.xp, clock)
    described |= {f"measured_{name}": value for name, value in asdict(rates).items()}
    rows: list[dict[str, Any]] = []
    sizes = options.lengths, options.batch_sizes, options.hidden_sizes
    for case in tqdm(list(cases(options.cells, *sizes)), unit="case", disable=None):
        found = makers(case, options.seed, kernels, calls, with_torch)
        rows += rows_of(case, options.seed, found, clock, options.rounds, rates)
        gc.collect()  # what a cycle still holds
        kernels.xp.get_default_memory_pool().free_all_blocks()
        if with_torch:
            torch.cuda.empty_cache()
    show(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "gpu.csv", rows)
    write_json(options.out / "environment.json", described)
    draw(options.out / "gpu.csv", output_of(options, options.out).path("gpu"), PASSES)
    return 0


if __name__ == "__main__":
    sys.exit(guarded("gpu.py", main))
