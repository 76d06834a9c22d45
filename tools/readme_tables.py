"""Write the README's tables of figures from the results that the scripts wrote.

Run it after a script whose result is kept, copied from its --out folder:

    experiments/class_weights.py       docs/results/class_weights.csv
    experiments/book_protocol.py       docs/results/book_protocol.csv
    experiments/long_term_dependencies.py    docs/results/long_term_dependencies.csv
    benchmarks/against_pytorch.py      benchmarks/results/against_pytorch.csv
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


def memory_horizons() -> str:
    """The largest length solved, by recipe and task."""
    runs = pd.read_csv(ROOT / "docs/results/long_term_dependencies.csv")
    rows_of_runs = [{str(k): v for k, v in run.items()} for run in runs.to_dict("records")]
    table = pd.DataFrame(horizons(rows_of_runs))
    tasks = list(dict.fromkeys(table["task"]))
    rows = [
        [f"`{recipe}`", *(str(found.set_index("task")["horizon"][task]) for task in tasks)]
        for recipe, found in table.groupby("recipe", sort=False)
    ]
    return markdown_table(["", *(task.replace("_", " ") for task in tasks)], rows)


def main() -> None:
    """Fill every table in."""
    for table in (class_weights, book_protocol, against_pytorch, memory_horizons):
        fill_section(ROOT / "README.md", table.__name__, table())


if __name__ == "__main__":
    main()
