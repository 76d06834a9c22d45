"""Write the tables of README, accuracy, speed and processes from the results of the scripts.

Run it after a script whose result is kept, copied from its --out folder:

    experiments/class_weights.py       docs/results/class_weights.csv
    experiments/book_protocol.py       docs/results/book_protocol.csv
    experiments/compare_models.py      docs/results/compare_models.csv, which is its summary.csv
    benchmarks/against_frameworks.py         benchmarks/results/epochs.csv
    benchmarks/against_frameworks.py --grid --backend numba    benchmarks/results/grid_numba.csv
      with --input features --lengths 19 100                   benchmarks/results/grid_features.csv
      and with --backend numpy                                 benchmarks/results/grid.csv
    benchmarks/roofline.py                   benchmarks/results/roofline.csv
      and --backend numba                    benchmarks/results/roofline_numba.csv
    benchmarks/inference.py                  benchmarks/results/inference.csv
    benchmarks/distributed.py                benchmarks/results/distributed.csv
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from npnlp.files import fill_section, markdown_table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results"
#: The ways of this project.
OWN = "npnlp", "npnlp --backend numba"
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
    table = pd.read_csv(
        ROOT / "docs/results/book_protocol.csv", engine="python"
    )  # reads every digit
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


def epochs() -> str:
    """An epoch in each library's fastest way, and how many times ours the strongest one takes."""
    table = pd.read_csv(RESULTS / "epochs.csv")
    rows = []
    for (cell, size), found in table.groupby(["cell", "hidden_size"], sort=False):
        by_way = found.set_index("way")
        groups = [by_way[by_way.index.str.startswith(name)] for name in ("torch", "JAX")]
        cells = [f"{1e3 * by_way['epoch_processor_seconds'][way]:.0f} ms" for way in OWN]
        for fastest in (fastest_of(group) for group in groups):
            way = str(fastest.name).removeprefix("torch ").removeprefix("JAX, ")
            cells.append(f"{1e3 * fastest['epoch_processor_seconds']:.0f} ms, {way}")
        peer = fastest_of(pd.concat(groups))
        cells += [
            f"{peer[ratio]:.2f} ({peer[f'{ratio}_q25']:.2f} to {peer[f'{ratio}_q75']:.2f})"
            for ratio in ("ratio", "compiled_ratio")
        ]
        rows.append([f"{cell} {size}", *cells])
    strongest = "the strongest peer, times"
    header = ["", "NumPy", "Numba", "PyTorch's fastest", "JAX's fastest", f"{strongest} NumPy's",
              f"{strongest} Numba's"]  # fmt: skip
    return markdown_table(header, rows)


def fastest_of(ways: pd.DataFrame) -> pd.Series[Any]:
    """The row of the way that takes the least."""
    return ways.sort_values("epoch_processor_seconds").iloc[0]


def epoch_ways() -> str:
    """Every way at the book's size, and how many times this project's epoch it takes."""
    table = pd.read_csv(RESULTS / "epochs.csv")
    rows = [
        [
            str(row["way"]),
            f"{1e3 * row['epoch_processor_seconds']:.0f} ms",
            *(
                f"{row[ratio]:.1f} ({row[f'{ratio}_q25']:.1f} to {row[f'{ratio}_q75']:.1f})"
                for ratio in ("ratio", "compiled_ratio")
            ),
        ]
        for _, row in table[(table["cell"] == "elman") & (table["hidden_size"] == 64)].iterrows()
    ]
    titles = "", "epoch", "times npnlp's (quartiles)", "times npnlp's with Numba (quartiles)"
    return markdown_table(list(titles), rows)


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


def grid() -> str:
    """How many times as long a peer's layer takes: the mean over sizes, and the least."""
    names = {
        "Numba, characters": "grid_numba.csv", "Numba, numbers": "grid_features.csv",
        "NumPy, numbers": "grid.csv",
    }  # fmt: skip
    tables = [pd.read_csv(RESULTS / name) for name in names.values()]
    rows = []
    for cell in ("elman", "gru", "lstm"):
        for kind in ("forward", "forward + backward"):
            row = [cell, kind]
            for table in tables:
                found = table[(table["cell"] == cell) & (table["pass"] == kind)]["ratio"]
                row.append(f"{np.exp(np.log(found).mean()):.1f} ({found.min():.1f})")
            rows.append(row)
    return markdown_table(["", "", *(f"{name}: mean (least)" for name in names)], rows)


def roofline() -> str:
    """The floor of a training step, and how many times as long it takes."""
    own, compiled = (pd.read_csv(RESULTS / f"roofline{end}.csv") for end in ("", "_numba"))
    sizes = list(dict.fromkeys(own["H"]))
    rows = []
    for cell in dict.fromkeys(own["cell"]):
        cells = []
        for size in sizes:
            one, other = (
                t[(t["cell"] == cell) & (t["H"] == size)].iloc[0] for t in (own, compiled)
            )
            cells.append(
                f"{one['floor_us'] / 1e3:.2f} ms; {one['ratio']:.1f}, {other['ratio']:.1f}"
            )
        rows.append([str(cell), *cells])
    header = ["floor; times it, NumPy, Numba", *(f"hidden size {size}" for size in sizes)]
    return markdown_table(header, rows)


def inference() -> str:
    """Microseconds a name, and how many times that PyTorch takes, with NumPy and with Numba."""
    table = pd.read_csv(RESULTS / "inference.csv")
    table = table[table["model"] == "book"]
    kinds = {
        "registered": "a register, where names repeat", "distinct": "a million different names",
        "random": "random letters",
    }  # fmt: skip
    rows = []
    for kind, said in kinds.items():
        found = table[table["kind"] == kind].set_index("way")
        taken = [found["microseconds_per_name"][way] for way in ("npnlp", "npnlp --backend numba")]
        rows.append([said, "; ".join(f"{each:.2f}" for each in taken) + " us"])
        for way in ("torch", "torch, once each"):
            ratios = found["ratio"][way], found["numba_ratio"][way]
            rows[-1].append("; ".join(f"{ratio:.1f}" for ratio in ratios))
    single = table[table["kind"] == "registered"].set_index("way")
    rows.append([
        "one name at a time", f"{single['microseconds_per_name']['npnlp, one at a time']:.0f} us",
        f"{single['ratio']['torch, one at a time']:.1f}", "",
    ])  # fmt: skip
    header = [
        "NumPy; Numba",
        "a name",
        "times as long in PyTorch",
        "if that computes each once, too",
    ]
    return markdown_table(header, rows)


def distributed() -> str:
    """Efficiency of ranks, and the share of their time that sums take."""
    table = pd.read_csv(RESULTS / "distributed.csv")
    table = table[table["kind"] == "measured"]
    counts = sorted(set(table["ranks"]) - {1})
    rows = []
    for model, found in table.groupby("model", sort=False):
        by_ranks = found.set_index("ranks")
        cells = [
            f"{by_ranks['efficiency'][count]:.2f} ({100 * by_ranks['sum_share'][count]:.0f} %)"
            for count in counts
        ]
        rows.append([str(model), *cells])
    return markdown_table(["", *(f"{count} ranks" for count in counts)], rows)


def at_a_glance() -> str:
    """One row for each thing that people ask first."""
    scores = pd.read_csv(ROOT / "docs/results/compare_models.csv").set_index("entrant")
    epoch = pd.read_csv(RESULTS / "epochs.csv")
    epoch = epoch[(epoch["cell"] == "elman") & (epoch["hidden_size"] == 64)].set_index("way")
    peer = fastest_of(epoch[~epoch.index.isin(OWN)])
    names = pd.read_csv(RESULTS / "inference.csv")
    of_book = names[names["model"] == "book"]
    different = of_book[of_book["kind"] == "distinct"].set_index("way")
    start = of_book.set_index("way")["seconds"]

    def scored(entrant: str) -> str:
        row = scores.loc[entrant]
        return f"{row['accuracy']:.3f}, {row['macro_f1']:.3f}"

    seconds = scores["seconds"]
    pair = [1e3 * epoch["epoch_processor_seconds"][way] for way in OWN]
    each = [different["microseconds_per_name"][way] for way in OWN]
    once = different.loc["torch, once each"]
    cold, numpy = start["npnlp predict, cold start"], start["import numpy"]
    rows = [
        ["accuracy, macro F1 on the book's 1,660 test names", f"`--recipe wide` {scored('wide')}",
         f"n-grams, logistic regression {scored('ngrams')}", "`experiments/compare_models.py`"],
        ["training it", f"`light` {seconds['light']:.0f} s ({scored('light')}), `wide` "
         f"{seconds['wide']:.0f} s", f"n-grams {seconds['ngrams']:.0f} s",
         "`experiments/compare_models.py`"],
        ["an epoch of 7,680 names, Elman 64", f"{pair[0]:.0f} ms; Numba {pair[1]:.0f} ms",
         f"{peer.name} {1e3 * peer['epoch_processor_seconds']:.0f} ms",
         "`benchmarks/against_frameworks.py`"],
        ["a million different names", f"{each[0]:.2f} us a name; Numba {each[1]:.2f} us",
         f"PyTorch {once['microseconds_per_name']:.2f} us", "`benchmarks/inference.py`"],
        ["the first answer of a new process", f"{cold:.2f} s",
         f"importing NumPy alone {numpy:.2f} s", "`benchmarks/inference.py`"],
    ]  # fmt: skip
    return markdown_table(["", "npnlp", "beside it", "measured by"], rows)


PAGES = {
    "README.md": (at_a_glance,),
    "docs/accuracy.md": (class_weights, book_protocol, compare_models),
    "docs/speed.md": (epochs, epoch_ways, grid, roofline, inference),
    "docs/processes.md": (distributed,),
}


def main() -> None:
    """Fill every table in."""
    for page, tables in PAGES.items():
        for table in tables:
            fill_section(ROOT / page, table.__name__, table())


if __name__ == "__main__":
    main()
