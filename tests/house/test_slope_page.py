"""What the page on the slope says is in the kept results, and what it names is there."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TABLES: dict[str, Any] = runpy.run_path(str(ROOT / "tools/slope_tables.py"))
PAGE = (ROOT / TABLES["PAGE"]).read_text(encoding="utf-8")


def test_the_tables_say_what_the_results_say() -> None:
    for section in TABLES["SECTIONS"]:
        name = section.__name__
        filled = f"<!-- {name} -->\n{section()}\n<!-- end of {name} -->"
        assert filled in PAGE, f"run tools/slope_tables.py: {name} has changed"


def test_the_kept_results_keep_the_bounds() -> None:
    table = TABLES["grid"]()
    kept = table[
        (table["cell"] == "Elman, tanh")
        & (table["start"] == "default")
        & (table["hidden_size"] >= 128)
        & (table["scale"].between(0.5, 1.5))
    ]
    assert len(kept) == 6
    for column in ("from_inputs", "from_activations", "shared_weights"):
        assert ((kept[column] / kept["measured"] - 1).abs() < 0.05).all()
    assert (table["measured"] <= table["product_norm"] * (1 + 1e-9)).all()
    assert (table["product_norm"] <= table["bound"] * (1 + 1e-9)).all()


def test_what_the_text_says_of_training_is_in_the_results() -> None:
    """Right at first, far too low after it, and twice the share in the directions that survive."""
    table = TABLES["pd"].read_csv(TABLES["RESULTS"] / "mean_field_names.csv")
    assert len(table) == 8
    first, trained = (table[table["when"] == when] for when in ("at first", "trained"))
    for rows, low, high in ((first, 0.95, 1.05), (trained, 0, 0.75)):
        assert (rows["shared_weights"] / rows["measured"]).between(low, high).all()
    shares = trained["surviving_share"].to_numpy() / first["surviving_share"].to_numpy()
    assert (shares > 2).all()
    met = table.dropna()
    gains = (met["gain"] / met["variance"]).groupby(met["when"]).agg(["min", "max"])
    assert gains.loc["at first", "max"] < 1.1
    assert gains.loc["trained", "min"] > 1.5


def test_every_link_picture_and_script_is_there() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", PAGE)
    scripts = re.findall(r"(?:experiments|benchmarks|tools)/\w+\.py", PAGE)
    assert len(targets) >= 6
    for target in [*targets, *(f"../{script}" for script in scripts)]:
        assert (ROOT / TABLES["PAGE"]).parent.joinpath(target).exists(), target
