"""Write the tables of docs/recipe.md from the recipe and from kept results.

Run it after experiments/compare_models.py and experiments/recipe_ablation.py, whose CSV files are
kept in docs/results and whose pictures in docs/images, copied from their --out folders. Of the
first, summary.csv is kept as compare_models.csv, and models.csv, by_nationality.csv and what was
tried for the n-grams as compare_models_runs.csv, ..._by_nationality.csv and ..._NAME_choice.csv.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from npnlp.files import fill_section, markdown_table
from npnlp.lab.comparison import paired_changes
from npnlp.training.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/results"
PAGE = "docs/recipe.md"
RECIPE = "wide"
ABLATED = ("accuracy", "macro_f1")
#: Settings whose option has another name.
OPTIONS = {"embedding_size": "char-embedding-size"}
#: Whom the recipe is set beside, nationality by nationality.
BESIDE = (RECIPE, "light", "ngrams", "ngrams-balanced", "elman")


def with_half(row: Any, name: str) -> str:
    """A mean, with half of its interval where there is one."""
    half = row[f"{name}_high"] - row[name]
    return f"{row[name]:.3f}" + ("" if math.isnan(half) else f" ± {half:.3f}")


def options_of(recipe: str) -> str:
    """A recipe in full, as options of the command."""
    lines = []
    for name, value in RECIPES[recipe].items():
        option = {"embedding_size": "char-embedding-size"}.get(name, name.replace("_", "-"))
        if isinstance(value, bool):
            lines.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, list):
            lines.append(f"--{option} {' '.join(map(str, value))}")
        else:
            lines.append(f"--{option} {value}")
    return "\n".join(["```text", *lines, "```"])


def recipe_options() -> str:
    """The options of the recipe that wins."""
    return options_of(RECIPE)


def light_options() -> str:
    """The options of the recipe that takes a tenth of the time."""
    return options_of("light")


def recipe_scores() -> str:
    """Every entrant of the comparison on test."""
    names = ("accuracy", "balanced_accuracy", "macro_f1", "unseen_accuracy", "unseen_macro_f1")
    table = pd.read_csv(RESULTS / "compare_models.csv")
    rows = [
        [
            f"`{row['entrant']}`",
            str(row["runs"]),
            *(with_half(row, name) for name in names),
            f"{row['parameters']:,}",
            f"{row['seconds']:.0f} s",
        ]
        for _, row in table.iterrows()
    ]
    header = ["", "runs", "accuracy", "balanced accuracy", "macro F1", "accuracy, unseen names",
              "macro F1, unseen names", "parameters", "training"]  # fmt: skip
    return markdown_table(header, rows)


def recipe_nationalities() -> str:
    """F1 by nationality, of the recipe and of some others."""
    table = pd.read_csv(RESULTS / "compare_models_by_nationality.csv")
    table = table[table["entrant"].isin(BESIDE)].set_index(["entrant", "nationality"])
    own: Any = table.xs(RECIPE)
    own = own.sort_values("rows", ascending=False, kind="stable")
    rows = [
        [
            str(nationality),
            str(own["rows"][nationality]),
            *(with_half(table.loc[(entrant, nationality)], "f1") for entrant in BESIDE),
        ]
        for nationality in own.index
    ]
    return markdown_table(["", "test names", *(f"`{name}`" for name in BESIDE)], rows)


def recipe_ablation() -> str:
    """What each change of the recipe does on val, in points: the mean, and the runs' range."""
    table = pd.read_csv(RESULTS / "recipe_ablation.csv")
    runs: Any = pd.read_csv(RESULTS / "recipe_ablation_runs.csv").to_dict("records")
    changes = {name: paired_changes(runs, "variant", "whole", name) for name in ABLATED}
    rows = []
    for _, row in table.iterrows():
        cells = []
        for name in ABLATED:
            own = [100 * change for change in changes[name][str(row["variant"])]]
            spread = f"{100 * row[f'{name}_change']:+.1f} ({min(own):+.1f} to {max(own):+.1f})"
            cells += [f"{100 * row[name]:.1f}", "" if row["variant"] == "whole" else spread]
        rows.append([str(row["variant"]), str(row["runs"]), *cells])
    header = ["", "runs", "accuracy, %", "change", "macro F1, %", "change"]
    return markdown_table(header, rows)


SECTIONS = (recipe_options, light_options, recipe_scores, recipe_nationalities, recipe_ablation)


def main() -> None:
    """Fill every table in."""
    for section in SECTIONS:
        fill_section(ROOT / PAGE, section.__name__, section())


if __name__ == "__main__":
    main()
