"""The pictures of ``experiments/vanishing_gradients.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from npnlp.drawing import Axes, Figure, LogLocator, NullLocator, Picture, picture, power_of_ten
from npnlp.drawing.look import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, STYLES, VERMILION
from npnlp.plots.flow import FEWEST_EPOCHS, LIMITS
from npnlp.plots.parts import (
    Table,
    heat_map,
    lines_by_lag,
    table_of,
    whole_numbers,
    within,
)

#: The look of each start, in all pictures of starts.
LOOKS = dict(
    zip(
        ("default, tanh", "small, tanh", "unit, tanh", "large, tanh", "orthogonal, tanh",
         "identity, ReLU", "exploding, ReLU"),
        zip(
            (SKY, BLUE, GREEN, VERMILION, BLACK, ORANGE, PURPLE),
            (STYLES[0], *STYLES), strict=True,
        ),
        strict=True,
    )
)  # fmt: skip
LAG = "lag (steps back)"
#: The lags that panels of long sequences show; by then it is seen where every curve goes.
SHOWN = 30
#: Singular values this much below the largest are rounding errors.
ROUNDING = 1e-15
#: Steps over which a slope that changes from letter to letter is averaged.
SMOOTHED = 9
#: What the panels of long sequences show, on their logarithmic axis.
WINDOW = (1e-24, 1e20)
SIZE: Any = {"width": 14.0, "height": 8.0}


def legend_above(figure: Figure, axes: Axes, title: str, columns: int) -> None:
    """The title of the whole picture, and the legend of all panels below it."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, title=title,
                  title_fontsize="large")  # fmt: skip


def _panels(
    figure: Picture, names: list[str], y: str, title: str, decades: int
) -> Iterator[tuple[str, Axes]]:
    """A panel a name, two rows of three with the same axes; a legend for all of them.

    A tick of y every so many ``decades``, one of them at 1.
    """
    grid = figure.subplots(2, 3, sharex=True, sharey=True)
    for axes, name in zip(grid.reshape(-1), names, strict=False):
        axes.set(title=name, yscale="log")
        axes.yaxis.set_major_locator(LogLocator(base=10.0**decades, numticks=20))
        axes.yaxis.set_minor_locator(NullLocator())
        yield name, axes
    figure.supylabel(y)
    figure.supxlabel(LAG)
    legend_above(figure, grid[0, 0], title, 4)


def _ends(axes: Axes, lag: int, what: str, norm: float, bound: float) -> None:
    """Where both curves end, below the name of the panel."""
    axes.set_title(axes.get_title(), pad=24)
    axes.text(
        0.5, 1.03, f"lag {lag}: {what} {power_of_ten(norm)}, bound {power_of_ten(bound)}",
        fontsize="small", ha="center", transform=axes.transAxes,
    )  # fmt: skip


def _bound(axes: Axes, rows: pd.DataFrame, label: str = "product of the norms, a bound") -> None:
    axes.plot(rows["lag"], within(rows["bound"], 1.0, WINDOW), ":", color=VERMILION, linewidth=4,
              label=label)  # fmt: skip


def starts(table: Table, path: str | Path | None = None, language: str = "en") -> Figure:
    """The gradient by lag on random sequences, a panel a start."""
    table = table_of(table)
    names = list(table["start"].unique())
    title = "What is left of the gradient: untrained, on long random sequences"
    with picture(path, **SIZE, language=language) as figure:
        for name, axes in _panels(figure, names, "norm of dL/dh, 1 at lag 0", title, 6):
            found = table[table["start"] == name]
            rows, last = found[found["lag"] <= SHOWN], found.iloc[-1]
            axes.plot(rows["lag"], within(rows["hidden_grad_mean"], 1.0, WINDOW), color=BLUE,
                      label="gradient, mean of the sequences")  # fmt: skip
            if "product_norm" in rows:
                product, colour, style = LIMITS["product_norm"]
                axes.plot(rows["lag"], within(rows["product_norm"], 1.0, WINDOW), color=colour,
                          linestyle=style, label=product)  # fmt: skip
            _bound(axes, rows)
            _ends(axes, int(last["lag"]), "gradient", last["hidden_grad_mean"], last["bound"])
    return figure


def jacobians(table: Table, path: str | Path | None = None, language: str = "en") -> Figure:
    """Singular values of the product of Jacobians along one sequence, a panel a start."""
    table = table_of(table)
    names = list(table["start"].unique())
    title = "Singular values of dh_T/dh_k along one random sequence (drawn where above rounding)"
    looks = {"largest": (BLUE, "-"), "median": (GREEN, "--"), "smallest": (PURPLE, "-.")}
    with picture(path, **SIZE, language=language) as figure:
        for name, axes in _panels(figure, names, "singular value", title, 8):
            found = table[table["start"] == name]
            rows, last = found[found["lag"] <= SHOWN], found.iloc[-1]
            for column, (colour, style) in looks.items():
                sound = rows[column].where(rows[column] > ROUNDING * rows["largest"])
                axes.plot(rows["lag"], within(sound, 1.0, WINDOW), color=colour, linestyle=style,
                          label=column)  # fmt: skip
            _bound(axes, rows)
            _ends(axes, int(last["lag"]), "largest", last["largest"], last["bound"])
    return figure


def factors(table: Table, path: str | Path | None = None, language: str = "en") -> Figure:
    """The mean slope by lag, and the singular values of ``W_hh`` by rank."""
    table = table_of(table)
    with picture(path, **SIZE, language=language) as figure:
        left, right = figure.subplots(1, 2)
        for name in table["start"].unique():
            colour, style = LOOKS[name]
            rows = table[table["start"] == name]
            slopes = rows[rows["factor"] == "mean phi'"]
            smooth = slopes["value"].rolling(SMOOTHED, center=True, min_periods=1).mean()
            left.plot(slopes["place"], smooth, color=colour, linestyle=style, label=name)
            values = rows[rows["factor"] == "singular value of W_hh"]
            right.plot(values["place"], values["value"], color=colour, linestyle=style)
        left.set(title="Slope of tanh or ReLU", xlabel=LAG, ylim=(0, 1.05),
                 ylabel=f"mean phi' of the units, over {SMOOTHED} steps")  # fmt: skip
        right.set(title="Weights", xlabel="rank", ylabel="singular value of W_hh")
        legend_above(figure, left, "The two factors of the Jacobian apart", 3)
    return figure


def surnames(table: Table, path: str | Path | None = None, language: str = "en") -> Figure:
    """The gradient by lag on the test names, before and after training, a panel a start."""
    table = table_of(table)
    names = list(table["start"].unique())
    title = "The surname model on all test names, at first and trained"
    looks = {"at first": (SKY, ORANGE, "--"), "trained": (BLUE, VERMILION, "-")}
    unit = float(table["hidden_grad_mean"].max())
    with picture(path, **SIZE, language=language) as figure:
        for name, axes in _panels(figure, names, "norm of dL/dh, mean", title, 5):
            for when, (colour, colour_of_bound, style) in looks.items():
                rows = table[(table["start"] == name) & (table["when"] == when)]
                axes.plot(rows["lag"], within(rows["hidden_grad_mean"], unit), color=colour,
                          linestyle=style, label=f"gradient, {when}")  # fmt: skip
                axes.plot(rows["lag"], within(rows["bound"], unit), ":", color=colour_of_bound,
                          linewidth=4, label=f"bound, {when}")  # fmt: skip
            if "product_norm" in rows:
                axes.plot(rows["lag"], within(rows["product_norm"], unit), "-.", color=GREEN,
                          label="product of Jacobians, trained")  # fmt: skip
    return figure


def epochs(table: Table, path: str | Path | None = None, language: str = "en") -> Figure:
    """Heat maps over epoch and lag: what reaches a step, and its share of dL/dW_hh.

    Of fewer than :data:`npnlp.plots.flow.FEWEST_EPOCHS` epochs, a line for each.
    """
    table = table_of(table)
    mapped = table["epoch"].nunique() >= FEWEST_EPOCHS
    number = table["epoch"] + 1
    table = table.assign(named="epoch " + number.astype(str))
    kinds = {
        "hidden_grad_mean": ("What reaches the step", "norm of dL/dh, mean"),
        "weight_hh_share": ("Its share of dL/dW_hh", "norm of the share"),
    }
    with picture(path, **SIZE, language=language) as figure:
        figure.suptitle("Over training, start: default, tanh (one batch an epoch; white: no step)")
        for axes, column in zip(figure.subplots(1, 2), kinds, strict=True):
            title, label = kinds[column]
            if mapped:
                heat_map(figure, axes, table, column, label)
            else:
                seen = within(table[column], float(table[column].max()))
                lines_by_lag(axes, table.assign(seen=seen), "named", "seen")
                axes.set(xlabel=LAG, ylabel=label, yscale="log")
                axes.legend()
            axes.set_title(title)
    return figure


def clipping(table: Table, path: str | Path | None = None, language: str = "en") -> Figure:
    """Norms before and after clipping, and the loss, by step of training."""
    table = table_of(table)
    with picture(path, **SIZE, language=language) as figure:
        figure.suptitle("Clipping the gradient to norm 1, start: exploding, ReLU")
        on, off = (table[table["clipping"] == kind] for kind in ("on", "off"))
        left, right = figure.subplots(1, 2)
        left.plot(on["step"], on["norm"], color=VERMILION, label="before clipping")
        left.plot(on["step"], on["norm_clipped"], "--", color=BLUE, label="after clipping")
        right.plot(on["step"], on["loss"], color=BLUE, label="with clipping")
        for axes, column in ((left, "norm"), (right, "loss")):
            axes.plot(off["step"], off[column], "x:", color=BLACK, markersize=12, markeredgewidth=3,
                      label="without clipping, as\nlong as it is finite")  # fmt: skip
            axes.set(xlabel="step of training", yscale="log")
            whole_numbers(axes)
            axes.legend()
        left.set(title="Norm of the whole gradient", ylabel="norm of the gradient")
        right.set(title="Loss", ylabel="mean squared error")
    return figure
