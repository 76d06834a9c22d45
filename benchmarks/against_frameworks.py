"""This project against PyTorch and JAX on the CPU: training epochs, or a grid of passes.

Without ``--grid``: every way trains the same model (embedding, recurrent layer, dropout, linear,
ReLU, dropout, linear; Adam) on the same rows with the same batch size. Ways are interleaved, epoch
by epoch; a way's figure is its median, and the spread of a ratio is that of the ratios round by
round. The process and every library are held to ``--cores``. Ratios on one core are of time of the
processor, which other programs do not change, and on several of wall time; both clocks are in the
table. A way's first epoch, in which PyTorch and JAX compile, counts in no median; its time has a
column. JAX scans with one step at a time, or an Elman cell with all of them
unrolled, whichever was faster in a trial.

With ``--grid``: forward, and forward and backward, of one recurrent layer at every B, T and H, each
library in its fastest way: number of threads up to ``--cores``, and for JAX steps unrolled by 1 or
4 (:mod:`passes.grid`). A ratio is to the faster of PyTorch and JAX. The input of a step is a
character, looked up in a table that is as wide as the layer; this project and JAX multiply each
character of the table once, and not each step. With ``--input features`` every step has the book's
100 numbers of its own, and nothing can be looked up. A square that does not fit into the memory
that is free is said and left out.

Where JAX is not installed, its ways are left out.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from passes import grid, grid_picture
from passes.epochs import (
    BATCH,
    COMPILED,
    EMBEDDING,
    OURS,
    Epoch,
    measure,
    npnlp_model,
    own_epochs,
    report,
)
from passes.grid_sides import free_memory
from passes.held import clock_of, held_to
from passes.jax_layers import WITHOUT_JAX
from passes.torch_epochs import MODULES, torch, torch_epoch
from tqdm import tqdm

from npnlp.backend import get_backend
from npnlp.cli.options import add_backend
from npnlp.cli.pictures import add_format, output_of
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.errors import InputError
from npnlp.files import write_csv, write_json
from npnlp.optional import one_line
from npnlp.runs.report import environment
from npnlp.text import SurnameDataset

#: The book's size, at which its own ways of writing a step are measured too.
BOOK = ("elman", 64)
TORCH_COMPILE = "torch.compile, padded"
#: Letters of both cases, digits, and what else is on a keyboard.
VOCABULARY = 100
QUICK = {"cells": ["elman"], "hidden_sizes": [64], "rounds": 1}
QUICK_GRID = {"batch_sizes": [1, 4], "lengths": [5], "hidden_sizes": [8], "rounds": 3}


def parsed() -> argparse.Namespace:
    """The options; ``--quick`` takes one round, or a grid of small squares."""
    parser = script_parser(__doc__, "out/against_frameworks")
    add_table(parser)
    add_format(parser)
    add_backend(parser)
    add = parser.add_argument

    def numbers(name: str, default: list[int], text: str, metavar: str) -> None:
        add(name, type=int, nargs="+", default=default, metavar=metavar, help=text)

    add("--rounds", type=int, default=9, help="measurements of each way")
    add("--cores", type=int, default=1, metavar="N", help="for every library, and its threads")
    add("--grid", action="store_true", help="one layer at every B, T and H, not a training epoch")
    add("--cells", nargs="+", choices=list(MODULES), default=list(MODULES), help="which cells")
    add("--hidden-sizes", type=int, nargs="+", metavar="H",
        help="hidden units; by default 64, 128 and 256, and 512 too with --grid")  # fmt: skip
    of_grid = parser.add_argument_group("with --grid")
    add = of_grid.add_argument
    numbers("--batch-sizes", [1, 16, 64, 256], "sequences", "B")
    numbers("--lengths", [19, 100, 1000], "steps", "T")
    add("--input", choices=["tokens", "features"], default="tokens", help="what a step is given")
    add("--input-size", type=int, metavar="D",
        help="features of the input; by default H of tokens, and 100 without")  # fmt: skip
    add("--budget", type=float, default=3.0, metavar="SECONDS",
        help="no new round of a square after so long; three there are in any case")  # fmt: skip
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK_GRID if options.grid else QUICK)
    if options.hidden_sizes is None:
        options.hidden_sizes = [64, 128, 256, *([512] if options.grid else [])]
    if options.input == "features":
        options.input_size = options.input_size or EMBEDDING
    sizes = options.batch_sizes + options.lengths + options.hidden_sizes
    if min([options.rounds, options.cores, options.input_size or 1, *sizes]) < 1:
        parser.error("sizes, --cores and --rounds have to be at least 1")
    return options


def ways_of(dataset: SurnameDataset, cell: str, hidden: int, backend: str) -> dict[str, Epoch]:
    """Every way to train the model of this cell and size, by name."""
    ways = own_epochs(dataset, cell, hidden, get_backend(backend))
    for way in ("packed", "padded"):
        ways[f"torch {way}"] = torch_epoch(dataset, way, cell, hidden)
    ways[TORCH_COMPILE] = torch_epoch(dataset, "padded", cell, hidden, compiled=True)
    if (cell, hidden) == BOOK:
        ways["torch RNNCell step by step"] = torch_epoch(dataset, "steps")
        ways["the book's whole epoch"] = torch_epoch(dataset, "steps", loader=True)
    if not WITHOUT_JAX:
        from passes.jax_epochs import fastest

        state = npnlp_model(dataset, cell, hidden).state_dict()
        for way, whole in {"JAX, a call a batch": False, "JAX, a call an epoch": True}.items():
            ways[way] = fastest(dataset.arrays("train"), state, cell, BATCH, whole)
    return ways


def left_out(way: str, error: Exception) -> bool:
    """Whether a way that cannot begin is left out, and said: what needs a compiler may not."""
    if way == TORCH_COMPILE:
        tqdm.write(f"{way} is left out: {type(error).__name__}: {one_line(error)}")
    return way == TORCH_COMPILE


def epochs(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Training epochs of every way."""
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.cores)
    clock = clock_of(options.cores)
    print(f"{len(dataset):,} names, batch {BATCH}, embedding {EMBEDDING}, {options.rounds} rounds, "
          f"{options.cores} cores; ratios are of {clock} time")  # fmt: skip
    rows: list[dict[str, Any]] = []
    with held_to(options.cores):
        for cell in options.cells:
            for hidden in options.hidden_sizes:
                ways = ways_of(dataset, cell, hidden, options.backend)
                found, firsts = measure(ways, options.rounds, left_out)
                print(f"\n{f'{cell} {hidden}':<28}{'processor':>12}{'wall':>10}{'first':>9}  times "
                      f"{OURS}'s (quartiles), times {COMPILED}'s")  # fmt: skip
                for row in report(found, firsts, len(dataset), clock):
                    sizes = {"cell": cell, "hidden_size": hidden, "cores": options.cores}
                    rows.append({**sizes, **row})
                    print(said(row), flush=True)
                options.out.mkdir(parents=True, exist_ok=True)
                write_csv(options.out / "epochs.csv", rows)  # what an early end would lose
    return rows


def said(row: dict[str, Any]) -> str:
    """A row as a line."""
    ratios = (
        f"{row[ratio]:>8.2f} ({row[f'{ratio}_q25']:.2f} to {row[f'{ratio}_q75']:.2f})"
        for ratio in ("ratio", "compiled_ratio")
        if ratio in row
    )
    return (
        f"{row['way']:<28}{1e3 * row['epoch_processor_seconds']:>9.1f} ms"
        f"{1e3 * row['epoch_wall_seconds']:>7.1f} ms{row['first_epoch_wall_seconds']:>7.1f} s "
        f"{''.join(ratios)}"
    )


def squares(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Passes at every square that fits into memory."""
    backend = get_backend(options.backend)
    backend.keep_memory()  # of the process, so of PyTorch too
    vocabulary = VOCABULARY if options.input == "tokens" else 0
    sizes = options.batch_sizes, options.lengths, options.hidden_sizes
    chosen = grid.squares(options.cells, *sizes, options.input_size, vocabulary)
    rows: list[dict[str, Any]] = []
    with held_to(options.cores), tqdm(chosen, unit="square", disable=None) as bar:
        for square in bar:
            bar.set_postfix_str(str(square))
            free = free_memory()
            if free is not None and square.nbytes > free:
                tqdm.write(f"{square} is left out: it takes some {square.nbytes / 2**30:.1f} GiB, "
                           f"and {free / 2**30:.1f} GiB are free")  # fmt: skip
                continue
            found = grid.measure(
                square, options.seed, options.cores, options.rounds, options.budget, backend
            )
            for row in found:
                rows.append(row)
                tqdm.write(
                    f"{square} {row['pass']}: ours {row['npnlp_ms']:.3f} ms, {row['peer']} "
                    f"{row[row['peer'] + '_ms']:.3f} ms, ratio {row['ratio']:.2f} "
                    f"({row['ratio_q25']:.2f} to {row['ratio_q75']:.2f})"
                )
            options.out.mkdir(parents=True, exist_ok=True)
            write_csv(options.out / "grid.csv", rows)  # what an early end would lose
    if not rows:
        raise InputError("no square fits into the memory that is free; choose smaller sizes")
    for sentence in grid.sentences(rows):
        print(sentence)
    return rows


def main() -> int:
    """Measure, print, write and, with ``--grid``, draw."""
    options = parsed()
    if WITHOUT_JAX:
        print(f"JAX is left out: {WITHOUT_JAX}")
    rows = squares(options) if options.grid else epochs(options)
    name = "grid" if options.grid else "epochs"
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / f"{name}.csv", rows)
    versions = {"torch": torch.__version__}
    if not WITHOUT_JAX:
        from passes.jax_layers import jax, optax

        versions |= {"jax": jax.__version__, "optax": optax.__version__}
    described = {**environment(get_backend(options.backend)), **versions, "cores": options.cores}
    write_json(options.out / "environment.json", described)
    if options.grid:
        grid_picture.draw(options.out / "grid.csv", output_of(options, options.out).path("grid"))
    return 0


if __name__ == "__main__":
    sys.exit(guarded("against_frameworks.py", main))
