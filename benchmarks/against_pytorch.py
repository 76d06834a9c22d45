"""This project against PyTorch on the CPU, in one run: a training epoch, or a grid of passes.

Without ``--grid``: every way trains the same model (embedding, Elman, dropout, linear, ReLU,
dropout, linear; Adam) on the same rows with the same batch size. Ways are interleaved, epoch by
epoch, each with every thread count; a way's figure is its median at its best thread count, and the
spread of a ratio is that of the ratios round by round.

With ``--grid``: forward, and forward and backward, of one recurrent layer at every B, T and H, each
library at its best thread count (:mod:`passes.grid`). The input of a step is a character, looked up
in a table that is as wide as the layer; this project multiplies each character of the table once,
and not each step. With ``--input features`` every step has the book's 100 numbers of its own, and
nothing can be looked up. A square that does not fit into the memory that is free is said and left
out.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from passes import grid, grid_picture
from passes.epochs import (
    BATCH,
    EMBEDDING,
    MODULES,
    measure,
    own_epochs,
    report,
    torch,
    torch_epoch,
)
from passes.grid_sides import free_memory
from tqdm import tqdm

from npnlp.backend import get_backend
from npnlp.cli.options import add_backend
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.errors import InputError
from npnlp.files import write_csv, write_json
from npnlp.runs.report import environment
from npnlp.text import SurnameDataset

HIDDEN = 64
#: Letters of both cases, digits, and what else is on a keyboard.
VOCABULARY = 100
QUICK_GRID = {"batch_sizes": [1, 4], "lengths": [5], "hidden_sizes": [8], "rounds": 3}


def parsed() -> argparse.Namespace:
    """The options; ``--quick`` takes one round, or a grid of small squares."""
    parser = script_parser(__doc__, "out/against_pytorch")
    add_table(parser)
    add_backend(parser)
    add = parser.add_argument

    def numbers(name: str, default: list[int], text: str, metavar: str) -> None:
        add(name, type=int, nargs="+", default=default, metavar=metavar, help=text)

    add("--rounds", type=int, default=9, help="measurements of each way and thread count")
    numbers("--threads", [1, 2], "counts to try", "N")
    add("--grid", action="store_true", help="one layer at every B, T and H, not a training epoch")
    of_grid = parser.add_argument_group("with --grid")
    add = of_grid.add_argument
    add("--cells", nargs="+", choices=list(MODULES), default=list(MODULES), help="which cells")
    numbers("--batch-sizes", [1, 16, 64, 256], "sequences", "B")
    numbers("--lengths", [19, 100, 1000], "steps", "T")
    numbers("--hidden-sizes", [64, 128, 256, 512], "hidden units", "H")
    add("--input", choices=["tokens", "features"], default="tokens", help="what a step is given")
    add("--input-size", type=int, metavar="D",
        help="features of the input; by default H of tokens, and 100 without")  # fmt: skip
    add("--budget", type=float, default=3.0, metavar="SECONDS",
        help="no new round of a square after so long; three there are in any case")  # fmt: skip
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK_GRID if options.grid else {"rounds": 1})
    if options.input == "features":
        options.input_size = options.input_size or EMBEDDING
    sizes = options.batch_sizes + options.lengths + options.hidden_sizes + options.threads
    if min([options.rounds, options.input_size or 1, *sizes]) < 1:
        parser.error("sizes, --threads and --rounds have to be at least 1")
    return options


def epochs(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Training epochs of every way."""
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    torch.manual_seed(options.seed)
    ways = {
        **own_epochs(dataset, backend=get_backend(options.backend)),
        "torch.nn.RNN packed": torch_epoch(dataset, "packed"),
        "torch.nn.RNN padded": torch_epoch(dataset, "padded"),
        "RNNCell step by step": torch_epoch(dataset, "steps"),
        "the book's whole epoch": torch_epoch(dataset, "steps", loader=True),
    }
    rows = report(measure(ways, options.threads, options.rounds), len(dataset))
    print(f"{len(dataset):,} names, batch {BATCH}, embedding {EMBEDDING}, hidden {HIDDEN}, "
          f"{options.rounds} rounds, torch {torch.__version__}")  # fmt: skip
    print(f"{'way':<24}{'threads':>8}{'ms/epoch':>10}{'names/s':>10}  ratio and quartiles, to each "
          "backend of npnlp's")  # fmt: skip
    for row in rows:
        print(
            f"{row['way']:<24}{row['threads']:>8}{1e3 * row['epoch_seconds']:>10.1f}"
            f"{row['names_per_second']:>10,.0f}",
            *(
                f"{row[ratio]:>8.2f} ({row[f'{ratio}_q25']:.2f} to {row[f'{ratio}_q75']:.2f})"
                for ratio in ("ratio", "compiled_ratio")
                if ratio in row
            ),
        )
    return rows


def squares(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Passes at every square that fits into memory."""
    backend = get_backend(options.backend)
    backend.keep_memory()  # of the process, so of PyTorch too
    vocabulary = VOCABULARY if options.input == "tokens" else 0
    sizes = options.batch_sizes, options.lengths, options.hidden_sizes
    chosen = grid.squares(options.cells, *sizes, options.input_size, vocabulary)
    rows: list[dict[str, Any]] = []
    with tqdm(chosen, unit="square", disable=None) as bar:
        for square in bar:
            bar.set_postfix_str(str(square))
            free = free_memory()
            if free is not None and square.nbytes > free:
                tqdm.write(f"{square} is left out: it takes some {square.nbytes / 2**30:.1f} GiB, "
                           f"and {free / 2**30:.1f} GiB are free")  # fmt: skip
                continue
            found = grid.measure(
                square, options.seed, options.threads, options.rounds, options.budget, backend
            )
            for row in found:
                rows.append(row)
                tqdm.write(
                    f"{square} {row['pass']}: ours {row['npnlp_ms']:.3f} ms, torch "
                    f"{row['torch_ms']:.3f} ms, ratio {row['ratio']:.2f} "
                    f"({row['ratio_q25']:.2f} to {row['ratio_q75']:.2f}), "
                    f"{row['npnlp_threads']} and {row['torch_threads']} threads"
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
    rows = squares(options) if options.grid else epochs(options)
    name = "grid" if options.grid else "against_pytorch"
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / f"{name}.csv", rows)
    described = {**environment(get_backend(options.backend)), "torch": torch.__version__}
    write_json(options.out / "environment.json", described)
    if options.grid:
        grid_picture.draw(options.out / "grid.csv", options.out / "grid.png")
    return 0


if __name__ == "__main__":
    sys.exit(guarded("against_pytorch.py", main))
