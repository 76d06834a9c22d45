"""How much gradient reaches each step, as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from npnlp.drawing import Axes, Figure, picture
from npnlp.drawing.look import BLUE, GREEN, PURPLE, SKY, VERMILION
from npnlp.plots.parts import (
    Table,
    heat_map,
    legend_below,
    lines_by_lag,
    table_of,
    whole_numbers,
    within,
)

#: A heat map over the epochs has at least so many; of fewer, a line says more.
FEWEST_EPOCHS = 5
#: What is drawn beside the gradient, where its column is there: its name, colour and line.
LIMITS: dict[str, tuple[str, str, Any]] = {
    "product_norm": ("norm of the product of Jacobians", GREEN, "-."),
    "mean_field_grad": ("as mean-field theory has it", PURPLE, (0, (5, 1))),
    "bound": ("product of the norms, a bound", VERMILION, ":"),
}
#: In inches, with room for the legend below.
HEIGHT = 7.75


def gradient_flow(
    flow: Table, path: str | Path | None = None, *, saved: bool = False, language: str = "en"
) -> Figure:
    """The gradient that reaches each lag, with what limits it, from ``gradient_flow.csv``.

    Beside it a heat map over epochs and lags, from :data:`FEWEST_EPOCHS` epochs on; or, of a single
    epoch, the fraction of the gradient of ``W_hh`` that is each lag's. ``saved`` says that it is of
    a saved model, and of no epoch. Of several layers, the left picture compares them, and the right
    one shows the last layer.
    """
    flow = table_of(flow)
    layers = list(dict.fromkeys(flow["layer"]))
    last = flow[flow["layer"] == layers[-1]]
    of_layer = "" if len(layers) == 1 else f", {layers[-1]}"
    epochs = flow["epoch"].nunique()
    shares = epochs == 1 and last["weight_hh_fraction"].notna().any()  # attention has no W_hh
    panels = 2 if epochs >= FEWEST_EPOCHS or shares else 1
    width = 7.5 * panels if panels > 1 else 12
    with picture(path, width=width, height=HEIGHT, language=language) as figure:
        left, *others = figure.subplots(1, panels, squeeze=False)[0]
        if len(layers) > 1:
            final = flow[flow["epoch"] == flow["epoch"].max()].copy()
            final["hidden_grad_mean"] = within(
                final["hidden_grad_mean"], final["hidden_grad_mean"].max()
            )
            lines_by_lag(left, final, "layer", "hidden_grad_mean")
        else:
            flow_by_lag(left, flow, saved)
        left.set_yscale("log", nonpositive="mask")
        left.set(xlabel="lag: steps back from the last character", ylabel="norm of dL/dh",
                 title="Gradient that reaches each step")  # fmt: skip
        whole_numbers(left)
        legend_below(figure, left, 2)
        for right in others:
            if shares:
                right.bar(last["lag"], last["weight_hh_fraction"], color=BLUE)
                right.set(xlabel="lag (steps back)", ylabel="norm of the lag's part, of their sum",
                          title=f"Shares of dL/dW_hh{of_layer}")  # fmt: skip
                whole_numbers(right)
            else:
                heat_map(figure, right, last, "hidden_grad_mean", "norm of dL/dh")
                right.set_title(f"The same over training{of_layer}")
    return figure


def flow_by_lag(axes: Axes, flow: pd.DataFrame, saved: bool) -> None:
    """The first and the last epoch of a single layer, the last with quartiles and limits."""
    epochs = sorted({int(flow["epoch"].min()), int(flow["epoch"].max())})
    largest = float(flow["hidden_grad_mean"].max())
    colours = (SKY, BLUE)[-len(epochs) :]
    for epoch, colour, style in zip(epochs, colours, ("--", "-")[-len(epochs) :], strict=True):
        rows, when = flow[flow["epoch"] == epoch], "" if saved else f", epoch {epoch + 1}"
        axes.plot(rows["lag"], within(rows["hidden_grad_mean"], largest), color=colour,
                  linestyle=style, label=f"gradient, mean{when}")  # fmt: skip
    low, high = (within(rows[f"hidden_grad_q{q}"], largest) for q in (25, 75))
    axes.fill_between(rows["lag"], low, high, color=BLUE, alpha=0.2, label="its quartiles")
    for column, (name, colour, style) in LIMITS.items():
        if column in rows and rows[column].notna().any():
            axes.plot(rows["lag"], within(rows[column], largest), color=colour, linestyle=style,
                      label=f"{name}{when}")  # fmt: skip


def flow_by_part(parts: Table, path: str | Path | None = None, *, language: str = "en") -> Figure:
    """Output and gradient of each gate, or attention and gradient of each head, by lag.

    From ``flow_by_part_model.csv``; of several layers, the last.
    """
    parts = table_of(parts)
    layer = parts["layer"].iloc[-1]
    rows = parts[parts["layer"] == layer].copy()
    if "activation" in rows:
        shown = {
            "activation": ("mean output", "Output of each part"),
            "delta_norm": ("mean norm of dL/da", "The gradient that reaches it"),
        }
    else:
        shown = {
            "attention": ("attention of the last character", "Where each head looks"),
            "head_grad": ("mean norm of dL/do", "The gradient that reaches it"),
        }
    *_, gradient = shown
    if positive := bool((rows[gradient] > 0).any()):
        rows[gradient] = within(rows[gradient], rows[gradient].max())
    with picture(path, width=15, height=HEIGHT, language=language) as figure:
        for place, (column, (label, title)) in enumerate(shown.items(), start=1):
            axes = figure.add_subplot(1, 2, place)
            lines_by_lag(axes, rows, "part", column, marker="o")
            axes.set(xlabel="lag: steps back from the last character", ylabel=label,
                     title=f"{title}, {layer}")  # fmt: skip
            whole_numbers(axes)
        if positive:
            axes.set_yscale("log")
        legend_below(figure, axes, 4)
    return figure
