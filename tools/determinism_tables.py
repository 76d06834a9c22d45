"""Write the table of docs/determinism.md from benchmarks/results/determinism.csv.

Run it after benchmarks/determinism.py, whose result is kept, copied from its --out folder.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from npnlp.files import fill_section, markdown_table

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/determinism.md"


def determinism() -> str:
    """By surroundings, over all seeds: files that are the same, and the largest differences."""
    runs = pd.read_csv(ROOT / "benchmarks/results/determinism.csv")
    rows = []
    for name, found in runs.groupby("surroundings", sort=False):
        apart = found["accuracy_difference"].abs().max()
        rows.append([
            str(name),
            f"{found['numpy'].iloc[0]}; {found['blas'].iloc[0]}",
            f"{found['same_files'].min()} of {found['files'].iloc[0]}",
            f"{found['after_one_epoch'].max():.0e}",
            f"{found['at_the_end'].max():.0e}",
            f"{apart:.4f}",
        ])  # fmt: skip
    header = ["", "NumPy; BLAS", "files the same", "weights after an epoch",
              f"after {runs['epochs'].iloc[0]} epochs", "test accuracy"]  # fmt: skip
    return markdown_table(header, rows)


def main() -> None:
    """Fill the table in."""
    fill_section(PAGE, "determinism", determinism())


if __name__ == "__main__":
    main()
