"""Time, memory and gradient of a recurrent layer against the length T of its sequences.

One batch of tokens, all sequences T steps long, looked up in a table; the loss is the sum of the
last states. Ways: plain backpropagation through time, in segments of about sqrt(T) steps with
recomputation or, asked for, truncated every K steps, and PyTorch's layer with the same weights,
where it is installed. Every round measures every way at every length once; a ratio is the median of
the ratios round by round, with quartiles.

Bytes held are those that the forward pass made and the backward pass needs: not the tokens and the
table, which the caller has. Working memory is the most that forward and backward allocate at any
moment (NumPy only). The gradient is that of the state before the first step, in float64.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from passes.recurrent import Work, our_work, torch_on_one_thread, torch_work
from tqdm import tqdm

from npnlp import plots
from npnlp.backend import Backend, get_backend
from npnlp.cli.options import add_backend
from npnlp.cli.pictures import add_format, output_of
from npnlp.cli.script import guarded, script_parser
from npnlp.files import write_csv, write_json
from npnlp.layers import CELLS
from npnlp.plots.parts import legend_below, within
from npnlp.runs.report import environment

LENGTHS = [10, 30, 100, 300, 1000, 3000, 10_000]
QUICK: dict[str, Any] = {"lengths": [10, 40, 90], "batch_size": 4, "hidden_size": 16, "rounds": 2}
#: A measurement is of at least so many steps, one pass after another.
STEPS_AT_LEAST = 1000
TORCH = "torch.nn.RNN"
LOOKS = {
    "plain": (plots.BLUE, "-", "o"),
    "recompute": (plots.VERMILION, "--", "s"),
    "truncate": (plots.GREEN, "-.", "^"),
    TORCH: (plots.BLACK, ":", "D"),
}
#: Gradients below this are not drawn: float64 ends at 10^-308, and nothing is learned from them.
FLOOR, SEEN = 1e-30, "≥ 10⁻³⁰"
Key = tuple[str, str, int]
Seconds = dict[Key, list[tuple[float, float]]]


def ways(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Each cell with each way that was asked for."""
    for cell in options.cells:
        if not options.recompute:
            yield cell, "plain"
        yield cell, "recompute"
        if options.truncate is not None:
            yield cell, "truncate"
    if "elman" in options.cells and not options.recompute:
        if without := torch_on_one_thread():
            print(f"{TORCH} is left out: {without}")
        else:
            yield "elman", TORCH


def work(options: argparse.Namespace, backend: Backend, key: Key, dtype: str = "float32") -> Work:
    """The work of one row."""
    cell, way, steps = key
    if way == TORCH:
        return torch_work(options, steps, dtype)
    return our_work(options, backend, cell, way, steps, dtype)


def timed(job: Work, times: int) -> tuple[float, float]:
    """Seconds of a forward pass, and of forward and backward."""
    forward = both = 0.0
    for _ in range(times):
        job.wait()
        started = time.perf_counter()
        cache = job.forward()
        job.wait()
        forward += time.perf_counter() - started
        job.backward(cache)
        job.wait()
        both += time.perf_counter() - started
        del cache  # so that the next pass finds the memory free
    return forward / times, both / times


def measure(works: dict[Key, Work], rounds: int) -> Seconds:
    """Seconds of every row in every round, interleaved; a round before the first warms up."""
    seconds: Seconds = {key: [] for key in works}
    with tqdm(total=(rounds + 1) * len(works), unit="pass", disable=None) as bar:
        for number in range(-1, rounds):
            for key, job in works.items():
                taken = timed(job, max(1, STEPS_AT_LEAST // key[2]))
                if number >= 0:
                    seconds[key].append(taken)
                bar.update()
    return seconds


def working_bytes(job: Work) -> int:
    """The most that forward and backward hold at once, as NumPy reports it to Python."""
    tracemalloc.start()
    job.backward(job.forward())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def row(
    options: argparse.Namespace, backend: Backend, key: Key, job: Work,
    seconds: list[tuple[float, float]],
) -> dict[str, Any]:  # fmt: skip
    """What is known of one way at one length."""
    cell, way, steps = key
    name = "torch" if way == TORCH else backend.name
    found: dict[str, Any] = {"backend": name, "cell": cell, "way": way, "T": steps}
    found["rounds"] = len(seconds)
    for part, taken in zip(("forward", "both"), np.array(seconds).T, strict=True):
        low, median, high = np.percentile(taken, [25, 50, 75])
        found |= {f"{part}_seconds": median, f"{part}_q25": low, f"{part}_q75": high}
    exact = work(options, backend, key, "float64")
    d_h0 = exact.backward(exact.forward())
    return found | {
        "us_per_step": 1e6 * found["both_seconds"] / steps,
        "steps_per_second": options.batch_size * steps / found["both_seconds"],
        "held_bytes": job.held(),
        "working_bytes": working_bytes(job) if name == "numpy" else None,
        "first_step_gradient": math.hypot(*d_h0.reshape(-1)),  # squares would vanish
    }


def ratio(seconds: Seconds, over: Key, under: Key, scale: float = 1.0) -> str:
    """Median and quartiles of the ratio of forward and backward, round by round."""
    pairs = zip(seconds[over], seconds[under], strict=True)
    low, median, high = np.percentile([scale * a[1] / b[1] for a, b in pairs], [25, 50, 75])
    return f"{median:.2f} (quartiles {low:.2f} to {high:.2f})"


def sentences(rows: list[dict[str, Any]], seconds: Seconds) -> Iterator[str]:
    """What a step costs in a long sequence, and what recomputation saves and costs."""
    held = {(row["cell"], row["way"], row["T"]): row["held_bytes"] for row in rows}
    lengths = sorted({steps for _, _, steps in seconds})
    short, long = (100 if 100 in lengths else lengths[0]), lengths[-1]
    for cell in dict.fromkeys(cell for cell, way, _ in seconds if way == "plain"):
        plain, again = (cell, "plain", long), (cell, "recompute", long)
        cost = ratio(seconds, plain, (cell, "plain", short), short / long)
        yield f"{cell}: a plain step at T = {long:,} costs {cost} times one at T = {short:,}"
        yield (
            f"{cell}: recomputation at T = {long:,} holds {100 * held[again] / held[plain]:.2f} % "
            f"of the memory of plain and takes {ratio(seconds, again, plain)} times as long"
        )


def draw(csv: Path, path: Path) -> None:
    """A row a cell: time a step, memory held and gradient at the first step against T."""
    table = pd.read_csv(csv)
    table["held_bytes"] /= 2**20
    panels = [
        ("us_per_step", "µs a step of the batch", "Forward and backward"),
        ("held_bytes", "MiB held", "Memory to go back with"),
        ("first_step_gradient", "norm of dL/dh₀", f"Gradient left at h₀, {SEEN}"),
    ]
    cells = list(dict.fromkeys(table["cell"]))
    with plots.picture(path, width=18, height=1.5 + 6 * len(cells)) as figure:
        grid = figure.subplots(len(cells), 3, squeeze=False)
        for row, cell in zip(grid, cells, strict=True):
            for axes, (column, label, title) in zip(row, panels, strict=True):
                for way, of_way in table[table["cell"] == cell].groupby("way"):
                    colour, style, marker = LOOKS[str(way)]
                    values = of_way[column]
                    if column == "first_step_gradient":
                        values = within(values, 1.0, (FLOOR, math.inf))
                    axes.plot(of_way["T"], values, color=colour, linestyle=style, marker=marker,
                              label=way)  # fmt: skip
                axes.set(xscale="log", xlim=(table["T"].min() / 1.5, table["T"].max() * 1.5),
                         xlabel="length T (steps, log scale)", ylabel=label,
                         title=title if len(cells) == 1 else f"{title}, {cell}")  # fmt: skip
                if column == "us_per_step":
                    axes.set_ylim(bottom=0)
                else:
                    axes.set_yscale("log")
        legend_below(figure, grid[0, 0], 4)


def show(rows: list[dict[str, Any]]) -> None:
    """The table, without the quartiles."""
    table = pd.DataFrame(rows).drop(columns=["backend", "rounds"])
    table = table.drop(columns=[name for name in table if "_q" in str(name)])
    print(table.to_string(index=False, float_format=lambda number: f"{number:,.4g}", na_rep=""))


def positive(text: str) -> int:
    """A whole number above 0, for an option."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return int(text)


def parsed() -> argparse.Namespace:
    """The options; ``--quick`` makes the sizes small."""
    parser = script_parser(__doc__, "out/sequence_lengths")
    add_format(parser)

    def number(name: str, default: int | list[int] | None, text: str, **keywords: Any) -> None:
        parser.add_argument(name, type=positive, default=default, help=text, **keywords)

    number("--lengths", LENGTHS, "steps T to try", nargs="+", metavar="T")
    number("--batch-size", 16, "sequences in the batch, B")
    number("--hidden-size", 64, "hidden units, H")
    number("--vocabulary", 80, "rows of the table, V")
    number("--embedding-size", 32, "columns of the table, D")
    number("--rounds", 15, "measurements of each row")
    number("--truncate", None, "also truncated every K steps", metavar="K")
    parser.add_argument("--recompute", action="store_true", help="no plain pass and no PyTorch")
    parser.add_argument(
        "--cells", nargs="+", choices=sorted(CELLS), default=["elman"], help="recurrent layers"
    )
    add_backend(parser)
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    return options


def main() -> int:
    """Measure, print, write and draw."""
    options = parsed()
    backend = get_backend(options.backend)
    keys = [(*pair, steps) for pair in ways(options) for steps in options.lengths]
    works = {key: work(options, backend, key) for key in keys}
    seconds = measure(works, options.rounds)
    rows = [row(options, backend, key, works[key], seconds[key]) for key in keys]
    print(f"batch {options.batch_size}, hidden {options.hidden_size}, vocabulary "
          f"{options.vocabulary}, embedding {options.embedding_size}, float32, "
          f"{options.rounds} rounds")  # fmt: skip
    show(rows)
    for sentence in sentences(rows, seconds):
        print(sentence)
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "sequence_lengths.csv", rows)
    write_json(options.out / "environment.json", environment(backend))
    path = output_of(options, options.out).path("sequence_lengths")
    draw(options.out / "sequence_lengths.csv", path)
    return 0


if __name__ == "__main__":
    sys.exit(guarded("sequence_lengths.py", main))
