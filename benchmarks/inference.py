"""Predicting a million names: npnlp against PyTorch's module with the same weights, on one core.

Both go from a list of names to the most probable nationality of each and its probability, in order:
encoding, sorting, computing. PyTorch's names are encoded by npnlp's look-up, and its batches are
sorted by length, at the best of some sizes. Names come a part at a time, as npnlp predict reads
them; the ways take turns, part by part, each goes first in turn, and a ratio is taken part by part.
Time is that of the processor, so that other programs on the machine do not count; each way has one
thread. npnlp computes a name that occurs again in a part once, which "once each" does for PyTorch
as well. Where Numba is installed, --backend numba takes part.

The kinds of names: "registered", drawn from the table as people are from a register, so that names
repeat; "distinct", different names put together from the table's runs of three letters; "random",
4 to 10 random letters. First weights are as good as trained ones here. Also measured: npnlp predict
from file to file with its memory, a name at a time, and the start of the command.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from passes.command import BACKENDS, COMMANDS, NUMBA, NUMPY, Row, cold_start, files_of, large_files
from passes.names import KINDS
from passes.torch_inference import TorchReader, torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from npnlp.backend import get_backend
from npnlp.classifier.building import make_classifier, model_settings
from npnlp.classifier.classifier import Classifier
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.files import write_csv, write_json
from npnlp.runs.report import environment
from npnlp.text import SurnameDataset
from npnlp.text.encoding import each_once
from npnlp.training.recipes import RECIPES

PART = 2**18
BATCHES = (64, 256, 512, 1024, 2048)
#: Of the names of the book's model, those that the much larger one is given.
SHARE = {"book": 1, "wide": 16}
Way = Callable[[list[str]], Any]


def best_of(read: Callable[[list[str]], np.ndarray[Any, Any]]) -> Way:
    """The most probable class of each name, and its probability."""

    def way(names: list[str]) -> Any:
        probabilities = read(names)
        classes = probabilities.argmax(axis=1)
        return classes, probabilities[np.arange(len(classes)), classes]

    return way


def once(best: Way) -> Way:
    """A name that occurs again is computed once, as npnlp predict does it."""

    def way(names: list[str]) -> Any:
        different = each_once(names)
        classes, shares = best(different)
        if different is names:
            return classes, shares
        places = dict(zip(different, range(len(different)), strict=True))
        rows = np.fromiter(map(places.__getitem__, names), dtype=np.int64, count=len(names))
        return classes.take(rows, axis=0), shares.take(rows, axis=0)

    return way


def seconds_of(way: Way, names: list[str]) -> float:
    """Processor time."""
    started = time.process_time()
    way(names)
    return time.process_time() - started


def at_best_batch(classifier: Classifier, names: list[str]) -> TorchReader:
    """PyTorch at the batch size that is fastest for some of the names."""
    readers = [TorchReader(classifier, batch) for batch in BATCHES]
    found = [min(seconds_of(r.probabilities, names) for _ in range(3)) for r in readers]
    return readers[int(np.argmin(found))]


def compare(ways: dict[str, Way], names: list[str], bar: tqdm[Any]) -> list[Row]:
    """A row a way; ratios are to npnlp, and to npnlp with compiled loops where that takes part."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number, start in enumerate(range(0, len(names), PART)):
        part = names[start : start + PART]
        order = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
        for name in order:
            seconds[name].append(seconds_of(ways[name], part))
            bar.update(len(part))
    rows = []
    for name, theirs in seconds.items():
        row = {"way": name, "names": len(names), "seconds": sum(theirs),
               "microseconds_per_name": 1e6 * sum(theirs) / len(names)}  # fmt: skip
        for column, ours in (("ratio", NUMPY), ("numba_ratio", NUMBA)):
            if ours in seconds:
                row |= quartiles(column, np.array(theirs) / np.array(seconds[ours]))
        rows.append(row)
    return rows


def quartiles(column: str, ratios: np.ndarray[Any, Any]) -> Row:
    """The columns of a median and of the quartiles around it."""
    low, middle, high = np.percentile(ratios, [25, 50, 75]).tolist()
    return {column: middle, f"{column}_q25": low, f"{column}_q75": high}


def one_at_a_time(classifier: Classifier, names: list[str]) -> list[Row]:
    """As :func:`compare`, a call a name, in ten rounds."""
    theirs = best_of(TorchReader(classifier).probabilities)
    ways: dict[str, Way] = {
        "npnlp, one at a time": lambda part: [classifier.predict([name]) for name in part],
        "npnlp packed, one at a time": lambda part: [
            classifier.packed_probabilities(*classifier.vectorizer.vectorize_many([name]))
            for name in part
        ],
        "torch, one at a time": lambda part: [theirs([name]) for name in part],
    }
    rounds = [{name: seconds_of(way, names) for name, way in ways.items()} for _ in range(11)][
        1:
    ]  # the first warms up
    ours = np.array([seconds["npnlp, one at a time"] for seconds in rounds])
    rows = []
    for name in ways:
        taken = np.array([seconds[name] for seconds in rounds])
        rows.append({"way": name, "names": len(names), "seconds": float(np.median(taken)),
                     "microseconds_per_name": 1e6 * float(np.median(taken)) / len(names),
                     **quartiles("ratio", taken / ours)})  # fmt: skip
    return rows


def measure(options: argparse.Namespace, dataset: SurnameDataset, folder: Path) -> list[Row]:
    """All rows."""
    table = [str(name) for name in dataset.surname_df["surname"]]
    vectorizer = dataset.get_vectorizer()
    count = 2_000 if options.quick else options.names
    rows: list[Row] = []
    kinds = {kind: make(table, count, options.seed) for kind, make in KINDS.items()}
    ways_of_each = len(BACKENDS) + 2
    total = sum(ways_of_each * count // SHARE[size] for size in SHARE for _ in kinds)
    with tqdm(total=total, unit="name", unit_scale=True, disable=None) as bar:
        for size, share in SHARE.items():
            settings = model_settings(RECIPES["wide"]) if size == "wide" else {}
            ours = {
                COMMANDS[name]: Classifier(
                    make_classifier(dataset, settings, get_backend(name), options.seed), vectorizer
                )
                for name in BACKENDS
            }
            classifier = ours[NUMPY]
            for kind, all_names in kinds.items():
                names = all_names[: count // share]
                theirs = at_best_batch(classifier, names[: PART // 16])
                best = best_of(theirs.probabilities)
                ways = {name: once(one.best) for name, one in ours.items()}
                for way in ways.values():
                    way(names[: PART // 16])  # compiles, or reads what is compiled
                found = compare({**ways, "torch": best, "torch, once each": once(best)}, names, bar)
                for row in found[-2:]:
                    row["batch"] = theirs.batch
                rows += [{"model": size, "kind": kind, **row} for row in found]
            rows += [
                {"model": size, "kind": "registered", **row}
                for row in one_at_a_time(classifier, table[: 20 if options.quick else 300])
            ]
            saved = folder / size / "model.safetensors"
            saved.parent.mkdir()
            classifier.save(saved)
    saved = folder / "book" / "model.safetensors"
    for kind, names in kinds.items():
        rows += [{"model": "book", "kind": kind, **row} for row in files_of(saved, names, folder)]
    found = large_files(saved, kinds["distinct"], folder, options.file_names or count)
    rows += [{"model": "book", "kind": "distinct", **row} for row in found]
    rows += [{"model": "book", **row} for row in cold_start(saved, 1 if options.quick else 9)]
    return rows


#: The columns of the CSV; a row leaves empty what it does not have.
COLUMNS = ("model", "kind", "way", "names", "batch", "seconds", "microseconds_per_name", "ratio",
           "ratio_q25", "ratio_q75", "numba_ratio", "numba_ratio_q25", "numba_ratio_q75",
           "megabytes", "clock_seconds")  # fmt: skip


def line_of(row: Row) -> str:
    """A row for the screen."""
    text = f"{row['model']:<6}{row.get('kind', ''):<12}{row['way']:<44}"
    if "microseconds_per_name" not in row:
        return text + f"{row['seconds']:>10.3f} s, {row['clock_seconds']:.3f} s by the clock"
    text += f"{row['microseconds_per_name']:>10.2f} us/name"
    if "ratio" in row:
        text += f"{row['ratio']:>8.2f}  {row['ratio_q25']:.2f} to {row['ratio_q75']:.2f}"
    if "numba_ratio" in row:
        text += "{numba_ratio:>8.2f}  {numba_ratio_q25:.2f} to {numba_ratio_q75:.2f}".format(**row)
    return text + (f"{row['megabytes']:>8.0f} MB" if "megabytes" in row else "")


def main() -> int:
    """Measure, print and write."""
    parser = script_parser(__doc__, "out/inference")
    add_table(parser)
    parser.add_argument("--names", type=int, default=1_000_000, help="how many of each kind")
    parser.add_argument("--file-names", type=int, default=0,
                        help="how many different ones the file has in all forms, which shows that "
                        "memory does not grow (default: as many as --names)")  # fmt: skip
    options = parser.parse_args()
    if options.names < SHARE["wide"]:
        parser.error(f"--names is {options.names}; give at least {SHARE['wide']}")
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    torch.set_num_threads(1)
    with threadpool_limits(1), TemporaryDirectory() as folder:
        rows = measure(options, dataset, Path(folder))
    print("\n".join(map(line_of, rows)))
    options.out.mkdir(parents=True, exist_ok=True)
    whole = [{name: row.get(name, "") for name in COLUMNS} for row in rows]
    write_csv(options.out / "inference.csv", whole)
    described = {**environment(get_backend()), "torch": torch.__version__}
    write_json(options.out / "environment.json", described)
    return 0


if __name__ == "__main__":
    sys.exit(guarded("inference.py", main))
