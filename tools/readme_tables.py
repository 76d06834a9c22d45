"""Write the README's tables of figures from the results that the scripts wrote.

Run it after a script whose result is kept, copied from its --out folder:

    experiments/class_weights.py       docs/results/class_weights.csv
    experiments/book_protocol.py       docs/results/book_protocol.csv
    experiments/long_term_dependencies.py    docs/results/long_term_dependencies.csv
    experiments/compare_models.py      docs/results/compare_models.csv, which is its summary.csv
    benchmarks/against_pytorch.py      benchmarks/results/against_pytorch.csv
    benchmarks/cells_against_pytorch.py      benchmarks/results/cells_against_pytorch.csv
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from npnlp.files import fill_section, markdown_table
from npnlp.training.lab import horizons

ROOT = Path(__file__).resolve().parents[1]
SCORES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}


def class_weights() -> str:
    """Mean and range of the scores, with and without class weights."""
    runs = pd.read_csv(ROOT / "docs/results/class_weights.csv", keep_default_na=False)
    rows = []
    for kind, found in runs.groupby("class_weights"):
        cells = [
            f"{found[score].mean():.3f} ({found[score].min():.3f} to {found[score].max():.3f})"
            for score in SCORES
        ]
        rows.append([f"`--class-weights {kind}`", *cells])
    return markdown_table(["", *SCORES.values()], rows)


def book_protocol() -> str:
    """What the protocol reports with each slip mended, and what that changes."""
    table = pd.read_csv(ROOT / "docs/results/book_protocol.csv")
    rows = [
        [
            str(row["variant"]),
            f"{row['reported_mean']:.3f} ({row['reported_min']:.3f} to {row['reported_max']:.3f})",
            f"{row['change_mean']:+.3f} ± {row['change_sd']:.3f}" if place else "",
            f"{row['all_rows_dropout_off_mean']:.3f}",
        ]
        for place, row in table.iterrows()
    ]
    header = ["protocol", "accuracy it reports", "change, same seed", "all rows, dropout off"]
    return markdown_table(header, rows)


def against_pytorch() -> str:
    """Time of an epoch, and how many times this project's that is."""
    table = pd.read_csv(ROOT / "benchmarks/results/against_pytorch.csv")
    rows = [
        [
            str(row["way"]),
            f"{1e3 * row['epoch_seconds']:.0f} ms",
            str(row["threads"]),
            f"{row['ratio']:.1f} ({row['ratio_q25']:.1f} to {row['ratio_q75']:.1f})",
        ]
        for _, row in table.iterrows()
    ]
    return markdown_table(["", "epoch", "threads", "times npnlp's (quartiles)"], rows)


def compare_models() -> str:
    """Scores of every entrant, with half of the interval over seeds where there are several."""
    table = pd.read_csv(ROOT / "docs/results/compare_models.csv")
    rows = []
    for _, row in table.iterrows():
        cells = [f"{row[score]:.3f}" for score in SCORES]
        if row["runs"] > 1:
            halves = [f"{row[f'{score}_high'] - row[score]:.3f}" for score in SCORES]
            cells = [f"{c} ± {half}" for c, half in zip(cells, halves, strict=True)]
        rows.append([f"`{row['entrant']}`", str(row["runs"]), *cells, f"{row['seconds']:.0f} s"])
    return markdown_table(["", "seeds", *SCORES.values(), "training, one core"], rows)


def cells_against_pytorch() -> str:
    """How many times this project's epoch each of PyTorch's ways takes, by cell and size."""
    table = pd.read_csv(ROOT / "benchmarks/results/cells_against_pytorch.csv")
    sizes = list(dict.fromkeys(table["hidden_size"]))
    rows = []
    for (cell, way), found in table[table["way"] != "npnlp"].groupby(["cell", "way"], sort=False):
        by_size = found.set_index("hidden_size")
        cells = [
            f"{by_size['ratio'][size]:.1f} ({by_size['ratio_q25'][size]:.1f} to "
            f"{by_size['ratio_q75'][size]:.1f})"
            for size in sizes
        ]
        rows.append([str(cell), str(way).removeprefix("torch "), *cells])
    header = ["", "PyTorch's batch", *(f"hidden size {size}" for size in sizes)]
    return markdown_table(header, rows)


def memory_horizons() -> str:
    """The largest length solved, by recipe and task; ``>=`` where no longer one was tried."""
    runs = pd.read_csv(ROOT / "docs/results/long_term_dependencies.csv")
    rows_of_runs = [{str(k): v for k, v in run.items()} for run in runs.to_dict("records")]
    table = pd.DataFrame(horizons(rows_of_runs))
    tasks = list(dict.fromkeys(table["task"]))
    rows = []
    for recipe, found in table.groupby("recipe", sort=False):
        by_task = found.set_index("task")
        reached = [
            f"{'>= ' if by_task['horizon'][task] == by_task['largest'][task] else ''}"
            f"{by_task['horizon'][task]}"
            for task in tasks
        ]
        rows.append([f"`{recipe}`", *reached])
    return markdown_table(["", *(task.replace("_", " ") for task in tasks)], rows)


TABLES = {
    table.__name__: table
    for table in (
        class_weights, book_protocol, compare_models, against_pytorch, cells_against_pytorch,
        memory_horizons,
    )
}  # fmt: skip


def main() -> None:
    """Fill every table in."""
    for name, table in TABLES.items():
        fill_section(ROOT / "README.md", name, table())


if __name__ == "__main__":
    main()
