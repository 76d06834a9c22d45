"""``npnlp train --num-epochs 1`` on large tables: what is not the epoch, a row, and its memory.

The tables are made from the names of a table (passes/names.py): 49 of 50 rows are different names,
and none has a split unless --split. Each run is a process of its own, in one thread. Time is that
of the processor, user and system, by part; "evaluate" is the forward pass over all rows at the
end, and "other" holds imports, which do not grow. Where pyarrow is installed, the command finds it
in one half of the runs, and not in the other. Memory is the most that the process held, less that
of a run with the fewest rows and less the bytes of the table, by the rows that it has more.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from passes.names import labelled
from tqdm import tqdm

from npnlp.backend import get_backend
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.errors import InputError
from npnlp.files import write_csv, write_json
from npnlp.runs.report import environment
from npnlp.text import own_table_path
from npnlp.text.table import read_rows

CASE = Path(__file__).resolve().parent / "passes" / "rows_case.py"
ROWS = (10_000, 100_000, 1_000_000, 3_000_000)
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)

Run = dict[str, Any]


def parsed() -> argparse.Namespace:
    """The options."""
    parser = script_parser(__doc__, "out/rows")
    add_table(parser)
    add = parser.add_argument
    add("--rows", type=int, nargs="+", default=list(ROWS), help="of the tables, the fewest first")
    add("--rounds", type=int, default=3, help="times that each table has its turn")
    add("--split", action="store_true", help="give the tables a column split")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.rounds = [2_000, 10_000], 1
    return options


def write_table(path: Path, rows: list[tuple[str, str]], count: int, options: Any) -> None:
    """A table of ``count`` rows made from ``rows``."""
    made, cycle = labelled(rows, count, options.seed), ["train"] * 14 + ["val"] * 3 + ["test"] * 3
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("nationality,surname" + ",split" * options.split + "\n")
        for n, (label, name) in enumerate(made):
            file.write(f"{label},{name}" + f",{cycle[n % 20]}" * options.split + "\n")


def trained(table: Path, folder: Path, pyarrow: int) -> Run:
    """What a run of the command took."""
    done = subprocess.run(
        [sys.executable, str(CASE), str(table), str(folder), str(pyarrow)],
        env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found: Run = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {"status": 1}
    if found["status"]:
        raise InputError(f"{table.name}: training failed: {done.stderr}")
    return found


def rows_of(runs: dict[tuple[int, int], list[Run]], sizes: dict[int, int]) -> list[dict[str, Any]]:
    """A row a table, pyarrow and part: microseconds a row, median and quartiles of all rounds."""
    found, least = [], min(sizes)
    for (count, pyarrow), each in runs.items():
        parts = {part: [run["seconds"][part] for run in each] for part in each[0]["seconds"]}
        parts["all but the epoch"] = [
            sum(run["seconds"].values()) - run["seconds"]["epoch"] for run in each
        ]
        memory = [run["memory"] or float("nan") for run in each]
        more = statistics.median(memory) - statistics.median(
            [run["memory"] or float("nan") for run in runs[least, pyarrow]]
        )
        text = sizes[count] - sizes[least]
        beyond = (more - text) / (count - least) if count > least else float("nan")
        for part, seconds in parts.items():
            micro = [1e6 * value / count for value in seconds]
            quarters = statistics.quantiles(micro * 2, method="inclusive")
            found.append({
                "rows": count, "pyarrow": pyarrow, "part": part, "us_a_row": quarters[1],
                "us_a_row_q25": quarters[0], "us_a_row_q75": quarters[2],
                "memory_mb": statistics.median(memory) / 1e6,
                "bytes_a_row_beyond_text": beyond,
            })  # fmt: skip
    return found


def main() -> int:
    """Make the tables, train, print and write."""
    options = parsed()
    table = read_rows(options.surname_csv or own_table_path())
    rows = list(zip(table.labels, table.names, strict=True))
    kinds = [0, 1] if find_spec("pyarrow") else [0]
    runs: dict[tuple[int, int], list[Run]] = {}
    with TemporaryDirectory() as folder:
        paths = {count: Path(folder) / f"{count}.csv" for count in sorted(options.rows)}
        for count, path in tqdm(paths.items(), unit="table", disable=None):
            write_table(path, rows, count, options)
        turns = [(n, kind) for n in range(options.rounds) for kind in kinds]
        for n, kind in tqdm(turns, unit="round", disable=None):
            for count, path in paths.items():
                run = trained(path, Path(folder) / f"run {count} {kind} {n}", kind)
                runs.setdefault((count, kind), []).append(run)
        sizes = {count: path.stat().st_size for count, path in paths.items()}
    found = rows_of(runs, sizes)
    for row in found:
        print(f"{row['rows']:>9,} rows, pyarrow {row['pyarrow']}: {row['part']:<20}"
              f"{row['us_a_row']:8.3f} us a row ({row['us_a_row_q25']:.3f} to "
              f"{row['us_a_row_q75']:.3f})")  # fmt: skip
        if row["part"] == "all but the epoch":
            print(f"{'':>9} memory {row['memory_mb']:.0f} MB, "
                  f"{row['bytes_a_row_beyond_text']:.0f} bytes a row beyond the text")  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "rows.csv", found)
    made_with = environment(get_backend("numpy")) | {"split": str(options.split)}
    write_json(options.out / "environment.json", made_with)
    return 0


if __name__ == "__main__":
    sys.exit(guarded("rows.py", main))
