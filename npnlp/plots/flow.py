"""How much gradient reaches each step, as pictures."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd

from npnlp.drawing import Axes, Figure, MaxNLocator, picture
from npnlp.drawing.look import BLUE, COLOURS, SKY, STYLES, VERMILION
from npnlp.plots.tables import Table, table_of, whole_numbers


def gradient_flow(flow: Table, path: str | Path | None = None, *, saved: bool = False) -> Figure:
    """The gradient that reaches each lag, with the bound, from ``gradient_flow.csv``.

    Beside it a heat map over epochs and lags; or, of a single epoch, the fraction of the gradient
    of ``W_hh`` that is each lag's. ``saved`` says that it is of a saved model, and of no epoch. Of
    several layers, the left picture compares them, and the right one shows the last layer.
    """
    flow = table_of(flow)
    layers = list(dict.fromkeys(flow["layer"]))
    last = flow[flow["layer"] == layers[-1]]
    of_layer = "" if len(layers) == 1 else f", {layers[-1]}"
    several = flow["epoch"].nunique() > 1
    panels = (
        2 if several or last["weight_hh_fraction"].notna().any() else 1
    )  # attention has no W_hh
    with picture(path, width=15) as figure:
        left, *others = figure.subplots(1, panels, squeeze=False)[0]
        if len(layers) > 1:
            final = flow[flow["epoch"] == flow["epoch"].max()]
            _lines_by_lag(left, final, "layer", "hidden_grad_mean")
        else:
            _flow_by_lag(left, flow, saved)
        left.set_yscale("log", nonpositive="mask")
        left.set(xlabel="lag: steps back from the last character", ylabel="norm of dL/dh",
                 title="Gradient that reaches each step")  # fmt: skip
        whole_numbers(left)
        left.legend()
        if several:
            _flow_heat_map(figure, others[0], last)
            others[0].set_title(f"The same over training{of_layer}")
        elif others:
            others[0].bar(last["lag"], last["weight_hh_fraction"], color=BLUE)
            others[0].set(xlabel="lag (steps back)", ylabel="norm of the lag's part, of their sum",
                          title=f"Shares of dL/dW_hh{of_layer}")  # fmt: skip
            whole_numbers(others[0])
    return figure


def _lines_by_lag(
    axes: Axes, rows: pd.DataFrame, by: str, value: str, marker: str | None = None
) -> None:
    """A line over the lags for each value of the column ``by``."""
    groups = rows.groupby(by, sort=False)
    for (name, group), colour, style in zip(groups, cycle(COLOURS), cycle(STYLES), strict=False):
        axes.plot(group["lag"], group[value], color=colour, linestyle=style, marker=marker,
                  label=name)  # fmt: skip


def _flow_by_lag(axes: Axes, flow: pd.DataFrame, saved: bool) -> None:
    """The first and the last epoch of a single layer, the last with quartiles and bound."""
    epochs = sorted({int(flow["epoch"].min()), int(flow["epoch"].max())})
    for epoch, colour, style in zip(epochs, (SKY, BLUE), ("--", "-"), strict=False):
        rows, when = flow[flow["epoch"] == epoch], "" if saved else f", epoch {epoch + 1}"
        axes.plot(rows["lag"], rows["hidden_grad_mean"], color=colour, linestyle=style,
                  label=f"mean{when}")  # fmt: skip
    low, high = rows["hidden_grad_q25"], rows["hidden_grad_q75"]
    axes.fill_between(rows["lag"], low, high, color=BLUE, alpha=0.2, label="quartiles")
    if rows["bound"].notna().any():
        axes.plot(rows["lag"], rows["bound"], color=VERMILION, linestyle=":",
                  label=f"chain-rule bound{when}")  # fmt: skip


def flow_by_part(parts: Table, path: str | Path | None = None) -> Figure:
    """Output and gradient of each gate, or attention and gradient of each head, by lag.

    From ``flow_by_part_model.csv``; of several layers, the last.
    """
    parts = table_of(parts)
    layer = parts["layer"].iloc[-1]
    rows = parts[parts["layer"] == layer]
    if "activation" in rows:
        shown = {
            "activation": ("mean output", "Gates and candidate"),
            "delta_norm": ("mean norm of dL/da", "The gradient that reaches it"),
        }
    else:
        shown = {
            "attention": ("attention of the last character", "Where each head looks"),
            "head_grad": ("mean norm of dL/do", "The gradient that reaches it"),
        }
    with picture(path, width=15) as figure:
        for place, (column, (label, title)) in enumerate(shown.items(), start=1):
            axes = figure.add_subplot(1, 2, place)
            _lines_by_lag(axes, rows, "part", column, marker="o")
            axes.set(xlabel="lag: steps back from the last character", ylabel=label,
                     title=f"{title}, {layer}")  # fmt: skip
            whole_numbers(axes)
        if (rows[column] > 0).any():
            axes.set_yscale("log", nonpositive="mask")
        axes.legend()
    return figure


def _flow_heat_map(figure: Figure, axes: Axes, flow: pd.DataFrame) -> None:
    grid = flow.pivot_table(index="lag", columns="epoch", values="hidden_grad_mean")
    logs = np.log10(grid.to_numpy(), where=grid.to_numpy() > 0, out=np.full(grid.shape, np.nan))
    axes.grid(visible=False)
    image = axes.imshow(logs, origin="lower", aspect="auto", cmap="cividis", interpolation="none",
                        extent=(0.5, grid.shape[1] + 0.5, -0.5, grid.shape[0] - 0.5))  # fmt: skip
    axes.set(xlabel="epoch", ylabel="lag (steps back)")
    whole_numbers(axes)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(image, ax=axes, label="norm of dL/dh, power of ten")
