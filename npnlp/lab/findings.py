"""What the tables of ``experiments/vanishing_gradients.py`` show, a sentence each.

Every number in a sentence is computed from the table that its picture is drawn from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

Table = pd.DataFrame

#: The lag that sentences on names speak of, where names are long enough.
FAR = 10


def left_at(table: Table, lag: int) -> dict[str, float]:
    """The mean gradient at a lag over that at lag 0, by start."""
    grid = table.pivot_table(index="lag", columns="start", values="hidden_grad_mean", sort=False)
    return {str(name): float(column[lag] / column[0]) for name, column in grid.items()}


def listed(values: Mapping[str, float]) -> str:
    """``1.2e-31 for small, tanh; ...``."""
    return "; ".join(f"{value:.1e} for {name}" for name, value in values.items())


def starts(table: Table) -> str:
    """What is left at the largest lag."""
    last = int(table["lag"].max())
    return f"{last} steps back, of the gradient is left {listed(left_at(table, last))}."


def jacobians(table: Table) -> str:
    """The product's largest singular value, and what the bound would allow."""
    last = table[table["lag"] == table["lag"].max()].set_index("start")
    found = {str(name): float(value) for name, value in last["largest"].items()}
    worst = (last["bound"] / last["largest"]).idxmax()
    return (
        f"Over {int(table['lag'].max())} steps the largest singular value is {listed(found)}; the "
        f"bound is furthest from it for {worst}: {last['bound'][worst]:.1e}."
    )


def factors(table: Table) -> str:
    """The range of each factor."""

    floor = math.floor(100 * table[table["factor"] == "max phi'"]["value"].min()) / 100
    means = table[table["factor"] == "mean phi'"].groupby("start", sort=False)["value"].mean()
    first = table[(table["factor"] == "singular value of W_hh") & (table["place"] == 1)]
    sigma = first.set_index("start")["value"]
    return (
        f"The largest phi' of a step is never below {floor:.2f}, so the bound is made by W_hh, "
        f"whose largest singular value goes from {sigma.min():.1f} ({sigma.idxmin()}) to "
        f"{sigma.max():.1f} ({sigma.idxmax()}); the mean phi' goes from {means.min():.2f} "
        f"({means.idxmin()}) to {means.max():.2f} ({means.idxmax()})."
    )


def surnames(table: Table) -> str:
    """What is left some characters back, before and after training."""
    lag = min(FAR, int(table["lag"].max()))
    first, trained = (left_at(table[table["when"] == w], lag) for w in ("at first", "trained"))
    parts = [f"{name} {first[name]:.1e}, then {trained[name]:.1e}" for name in first]
    return f"{lag} characters back, of the gradient is left at first, and trained: " + (
        "; ".join(parts) + "."
    )


def epochs(table: Table) -> str:
    """What is left some characters back in the first and in the last epoch that go so far."""
    lag = min(FAR, int(table["lag"].max()))
    at = {place: table[table["lag"] == place].set_index("epoch") for place in (0, lag)}
    left = (at[lag]["hidden_grad_mean"] / at[0]["hidden_grad_mean"]).dropna()
    share = at[lag]["weight_hh_share"] / at[0]["weight_hh_share"]
    first, last = int(left.index.min()), int(left.index.max())
    return (
        f"{lag} characters back, {left[first]:.1e} of the gradient is left in epoch {first + 1} "
        f"and {left[last]:.1e} in epoch {last + 1}; the share of dL/dW_hh from there is then "
        f"{share[last]:.1e} of that from lag 0."
    )


def clipping(table: Table) -> str:
    """The range of norms with clipping, and how long it goes well without."""
    on, off = (table[table["clipping"] == kind] for kind in ("on", "off"))
    without = f"step {len(off) + 1} is not" if len(off) < len(on) else "they all are, too"
    return (
        f"Gradients of norm {on['norm'].min():.1e} to {on['norm'].max():.1e} are cut to "
        f"{on['norm_clipped'].max():.2f} at most, and all {len(on)} steps are finite; without "
        f"clipping {without}."
    )
