"""Write the tables of docs/slope.md from kept results.

Run it after experiments/mean_field.py, whose CSV files are kept in docs/results and whose picture
in docs/images, copied from its --out folder; and after benchmarks/probe_cost.py, once for each
--cell, whose rows are kept together in benchmarks/results/probe_cost.csv.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from npnlp.files import fill_section, markdown_table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/results"
PAGE = "docs/slope.md"
#: The sizes and scales for which the theory of tanh has a bound to keep, and the bound.
WIDE, SCALES, BOUND = 128, (0.5, 1.0, 1.5), 0.05
#: The size whose factors are shown of every cell.
SHOWN = 128


def grid() -> pd.DataFrame:
    """The factors on random inputs."""
    return pd.read_csv(RESULTS / "mean_field.csv")


def error_of(row: pd.Series, column: str) -> str:
    """By how much a prediction differs from what was measured."""
    return f"{row[column] / row['measured'] - 1:+.1%}"


def slope_tanh() -> str:
    """tanh at random weights: measured, and predicted from weights and inputs alone."""
    table = grid()
    rows = []
    tanh = table[(table["cell"] == "Elman, tanh") & (table["start"] == "default")]
    for scale, found in tanh.groupby("scale"):
        by_size = found.set_index("hidden_size")
        cells = [
            f"{row['measured']:.3f}, {row['from_inputs']:.3f} ({error_of(row, 'from_inputs')})"
            for _, row in by_size.iterrows()
        ]
        rows.append([f"{scale:g}", *cells])
    return markdown_table(["`W_hh` times", *(f"H = {h}" for h in sorted(set(tanh["hidden_size"])))],
                          rows)  # fmt: skip


def slope_bound() -> str:
    """The largest error of tanh where there is a bound to keep."""
    table = grid()
    kept = table[
        (table["cell"] == "Elman, tanh") & (table["start"] == "default")
        & (table["hidden_size"] >= WIDE) & table["scale"].isin(SCALES)
    ]  # fmt: skip
    worst = [(kept[name] / kept["measured"] - 1).abs().max() for name in
             ("from_inputs", "from_activations")]  # fmt: skip
    return (
        f"With H of {WIDE} or more and scales of {SCALES[0]} to {SCALES[-1]} the largest error is "
        f"{worst[0]:.1%} from weights and inputs alone, and {worst[1]:.1%} from the activations of "
        f"a pass; the bound to keep is {BOUND:.0%}."
    )


def slope_cells() -> str:
    """Every cell at random weights of one size: measured, and by both theories."""
    table, rows = grid(), []
    shown = table[(table["hidden_size"] == SHOWN) & (table["start"] == "default")]
    for cell, found in shown.groupby("cell", sort=False):
        for _, row in found.iterrows():
            rows.append(_row_of(row, [str(cell), f"{row['scale']:g}"]))
    return markdown_table(["cell", "`W_hh` times", *HEADER], rows)


def slope_starts() -> str:
    """Weights that are not independent."""
    table, rows = grid(), []
    for _, row in table[(table["hidden_size"] == SHOWN) & (table["start"] != "default")].iterrows():
        rows.append(_row_of(row, [str(row["start"]), str(row["cell"])]))
    return markdown_table(["`W_hh`", "cell", *HEADER], rows)


def slope_sizes() -> str:
    """Errors of the theory of shared weights, and the spread of what was measured, by size."""
    table, rows = grid(), []
    plain = table[(table["start"] == "default") & (table["scale"] == 1)]
    for cell, found in plain.groupby("cell", sort=False):
        spread = found["measured_high"] / found["measured_low"] - 1
        errors = [error_of(row, "shared_weights") for _, row in found.iterrows()]
        rows.append([str(cell), *(f"{error} ({of_seeds:.1%})" for error, of_seeds in
                                  zip(errors, spread, strict=True))])  # fmt: skip
    return markdown_table(["cell", *(f"H = {h}" for h in sorted(set(plain["hidden_size"])))], rows)


def slope_names() -> str:
    """The surname model on names, before and after training."""
    rows = [
        [*_row_of(row, [str(row["cell"]), str(row["when"])]), f"{row['surviving_share']:.1%}"]
        for _, row in pd.read_csv(RESULTS / "mean_field_names.csv").iterrows()
    ]
    return markdown_table(["cell", "", *HEADER, "surviving share"], rows)


def slope_trained() -> str:
    """What the gradient of an Elman layer meets, against the means of the theory."""
    table = pd.read_csv(RESULTS / "mean_field_names.csv")
    rows = [
        [str(row["cell"]), str(row["when"]), *(f"{row[name]:.2f}" for name in MET)]
        for _, row in table[table["gain"].notna()].iterrows()
    ]
    return markdown_table(["cell", "", *MET.values()], rows)


def slope_cost() -> str:
    """What the norm costs of an epoch, and the whole gradient flow."""
    rows = []
    table = pd.read_csv(ROOT / "benchmarks/results/probe_cost.csv")
    for cell, found in table.groupby("cell", sort=False):
        rows.append([
            str(cell), f"{1e3 * found['without'].median():.0f} ms",
            f"{1e3 * found['norm'].median():.1f} ms, {found['norm_share'].median():.1%}",
            f"{1e3 * found['flow'].median():.1f} ms, {found['flow_share'].median():.1%}",
        ])  # fmt: skip
    header = ["cell", "an epoch", "the norm of the product", "all of the gradient flow"]
    return markdown_table(header, rows)


HEADER = ["measured", "new weights in each step", "shared weights", "norm of the product", "bound"]


MET = {
    "variance": "`v`: `W^T`, mean over directions", "gain": "for the gradient",
    "slope": "`phi'^2`, mean over units", "slope_met": "by the squares of the gradient",
}  # fmt: skip


def _row_of(row: pd.Series, first: list[str]) -> list[str]:
    predicted = [
        f"{row[name]:.3f} ({error_of(row, name)})"
        for name in ("from_activations", "shared_weights")
    ]
    return [*first, f"{row['measured']:.3f}", *predicted, f"{row['product_norm']:.3f}",
            f"{row['bound']:.3f}"]  # fmt: skip


SECTIONS = (
    slope_bound, slope_tanh, slope_cells, slope_starts, slope_sizes, slope_names, slope_trained,
    slope_cost,
)  # fmt: skip


def main() -> None:
    """Fill every table in."""
    for section in SECTIONS:
        fill_section(ROOT / PAGE, section.__name__, section())


if __name__ == "__main__":
    main()
