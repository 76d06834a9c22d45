"""Processor time from the start of a process to its first trained batch, with Numba.

Each kind of training runs twice in processes of its own, on one core: with an empty cache, where
Numba compiles, and with the cache that the first run filled. ``--backend auto`` weighs these times
(``npnlp/backend/worth.py``).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from npnlp.backend import get_backend
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.files import write_csv
from npnlp.text import SurnameDataset

KINDS: dict[str, list[str]] = {
    "elman": [], "elman, relu": ["--nonlinearity", "relu"], "gru": ["--cell", "gru"],
    "lstm": ["--cell", "lstm"], "gru, both directions": ["--cell", "gru", "--bidirectional"],
    "light": ["--recipe", "light"], "wide": ["--recipe", "wide"],
}  # fmt: skip
#: Trains until the first step of Adam is done, and says what it took.
FIRST_BATCH = """
import os, sys, time
from npnlp.backend.compiled import sums
step = sums.adam_step
def last(*arguments):
    step(*arguments)
    print(time.process_time(), flush=True)
    os._exit(0)
sums.adam_step = last
from npnlp.cli import main
sys.exit(main(sys.argv[1:]))
"""


def seconds(table: Path | None, seed: int, kind: str, folder: str) -> float:
    """One process, whose cache is in ``folder``."""
    given = ["--surname-csv", str(table)] if table else []
    with tempfile.TemporaryDirectory() as out:
        found = subprocess.run(
            [sys.executable, "-c", FIRST_BATCH, "train", "--backend", "numba", "--quiet",
             "--save-dir", out, "--seed", str(seed), *given, *KINDS[kind]],
            env={**os.environ, "NUMBA_CACHE_DIR": folder, "OPENBLAS_NUM_THREADS": "1"},
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    return float(found.stdout.split()[-1])


def main() -> int:
    """Measure, print and write."""
    parser = script_parser(__doc__, "out/first_batch")
    add_table(parser)
    options = parser.parse_args()
    get_backend("numba")  # or say that it is not installed
    SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)  # or what is wrong with it
    rows: list[dict[str, Any]] = []
    for kind in list(KINDS)[: 1 if options.quick else None]:
        with tempfile.TemporaryDirectory() as folder:
            empty, full = (
                seconds(options.surname_csv, options.seed, kind, folder) for _ in range(2)
            )
        print(f"{kind:<22} {empty:5.1f} s, then {full:.1f} s", flush=True)
        rows.append({"kind": kind, "empty_cache": empty, "full_cache": full})
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "first_batch.csv", rows)
    return 0


if __name__ == "__main__":
    sys.exit(guarded("first_batch.py", main))
