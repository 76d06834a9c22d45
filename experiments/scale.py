"""Names in many Parquet files, classified by Dask on a local cluster, against a plain loop.

Each worker is a process with one thread. Once more with one worker killed when a third of the parts
are written: Dask starts another, and what the first had not finished is computed again. Every row
has to be there once, in order, with the answer of the plain loop. Needs ``dask[dataframe]`` and
``distributed``.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

import npnlp
from npnlp.backend import get_backend
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.files import write_csv, write_json
from npnlp.optional import needs
from npnlp.runs.report import environment
from npnlp.text.table import read_table

#: Dask's workers give what they free back to the system, which takes half of the time again.
KEEP_MEMORY = {
    f"distributed.nanny.pre-spawn-environ.MALLOC_{kind}_THRESHOLD_": str(2**30)
    for kind in ("TRIM", "MMAP")
}


def classified(part: pd.DataFrame, classifier: npnlp.Classifier) -> pd.DataFrame:
    """The part with a column for the answer, and one for its probability."""
    classes, probabilities = classifier.best(part["surname"])
    labels = np.array(classifier.vectorizer.nationality_vocab.tokens)
    return part.assign(nationality=labels[classes[:, 0]], probability=probabilities[:, 0])


def write_parts(folder: Path, names: list[str], parts: int, rows: int) -> None:
    """``parts`` files of ``rows`` rows, numbered through."""
    for number in range(parts):
        first = number * rows
        chosen = [names[place % len(names)] for place in range(first, first + rows)]
        frame = pd.DataFrame({"row": range(first, first + rows), "surname": chosen})
        frame.to_parquet(folder / f"part.{number:04d}.parquet", index=False)


def plain(folder: Path, output: Path, classifier: npnlp.Classifier) -> None:
    """One file after another, in this process."""
    output.mkdir()
    for path in sorted(folder.glob("*.parquet")):
        classified(pd.read_parquet(path), classifier).to_parquet(output / path.name, index=False)


def by_dask(folder: Path, output: Path, classifier: npnlp.Classifier, client: Any) -> Any:
    """The same, a part a task; returns the work that is going on."""
    import dask.dataframe

    frame = dask.dataframe.read_parquet(folder, split_row_groups=False)
    meta = classified(frame.head(1), classifier).head(0)  # names and types of the columns
    answers = frame.map_partitions(classified, classifier, meta=meta)
    written = answers.to_parquet(output, write_index=False, compute=False)
    return client.compute(written)


@contextmanager
def cluster(workers: int) -> Iterator[Any]:
    """A client of so many processes of one thread each."""
    import dask

    distributed: Any = import_module("distributed")
    with dask.config.set(KEEP_MEMORY), distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None,
        memory_limit=0,
    ) as local, distributed.Client(local) as client:  # fmt: skip
        yield client


def kill_one(client: Any, output: Path, done: int) -> None:
    """End a worker as soon as ``done`` files are written."""
    while len(list(output.glob("*.parquet"))) < done:
        time.sleep(0.02)
    pids = client.run(os.getpid)
    os.kill(next(iter(pids.values())), signal.SIGKILL)


def parts_of(folder: Path) -> list[Path]:
    """The files by their numbers, which Dask does not pad with zeros."""
    return sorted(folder.glob("*.parquet"), key=lambda path: int(path.stem.partition(".")[2]))


def check(expected: Path, found: Path) -> None:
    """Raise where a row is missing, doubled, out of order or has another answer."""
    for ours, theirs in zip(parts_of(expected), parts_of(found), strict=True):
        left, right = pd.read_parquet(ours), pd.read_parquet(theirs)
        # Dask has a type of its own for texts.
        pd.testing.assert_frame_equal(left, right, check_dtype=False, check_exact=True)


def main() -> int:
    """Measure, print and write."""
    parser = script_parser(__doc__, "out/scale")
    add_table(parser)
    add = parser.add_argument
    add("--parts", type=int, default=100, help="Parquet files")
    add("--rows", type=int, default=100_000, help="names in each")
    add("--rounds", type=int, default=3, help="measurements of each way")
    add("--workers", type=int, nargs="+", default=[1, 2], metavar="W", help="processes")
    options = parser.parse_args()
    if options.quick:
        options.parts, options.rows, options.rounds, options.workers = 6, 50, 1, [1]
    if min(options.parts, options.rows, options.rounds, *options.workers) < 1:
        parser.error("--parts, --rows, --rounds and --workers have to be at least 1")
    classifier = npnlp.Classifier.load()
    table = read_table(options.surname_csv)["surname"].tolist()
    with needs("this benchmark", "distributed", fix="'dask[dataframe]' distributed"):
        import dask.dataframe  # noqa: F401
        import distributed  # noqa: F401
    names = Random(options.seed).choices(table, k=options.rows)
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        write_parts(folder / "in", names, options.parts, options.rows)
        seconds = []
        for number in range(options.rounds):
            started = time.perf_counter()
            plain(folder / "in", folder / f"plain{number}", classifier)
            seconds.append(time.perf_counter() - started)
        median = statistics.median(seconds)
        rows.append({"way": "a plain loop", "workers": 1, "seconds": median, "ratio": 1.0})
        print(
            f"a plain loop: {median:.1f} s for {options.parts * options.rows:,} names", flush=True
        )
        for workers in options.workers:
            for killed in (False, True):
                taken = []
                with cluster(workers) as client:
                    for number in range(1 if killed else options.rounds):
                        output = folder / f"dask{workers}{killed}{number}"
                        started = time.perf_counter()
                        work = by_dask(folder / "in", output, classifier, client)
                        if killed:
                            kill_one(client, output, max(1, options.parts // 3))
                        work.result()
                        taken.append(time.perf_counter() - started)
                        check(folder / "plain0", output)
                way = "Dask, a worker killed" if killed else "Dask"
                each = statistics.median(taken)
                rows.append(
                    {"way": way, "workers": workers, "seconds": each, "ratio": each / median}
                )
                print(f"{way}, workers: {workers}: {each:.1f} s, {each / median:.2f} times; every "
                      "row once, in order, with the same answer", flush=True)  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "scale.csv", rows)
    write_json(options.out / "environment.json", environment(get_backend()))
    return 0


if __name__ == "__main__":
    sys.exit(guarded("scale.py", main))
