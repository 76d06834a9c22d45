"""What pictures have in common: the table they are drawn from, ticks, and what is in the frame."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from npnlp.drawing import Axes, Figure, LogNorm, MaxNLocator
from npnlp.drawing.look import COLOURS, STYLES

#: A DataFrame with the columns of a run's CSV file, or that file.
Table = pd.DataFrame | str | Path
#: On a logarithmic axis, what is drawn goes from here to there, over the largest gradient: beyond
#: it is seen where a curve goes, and the ticks would tell nothing.
WINDOW = (1e-16, 1e10)


def table_of(table: Table) -> pd.DataFrame:
    """The table itself, or what its file holds."""
    return table if isinstance(table, pd.DataFrame) else pd.read_csv(table)


def whole_numbers(axes: Axes) -> None:
    """Ticks of x at whole numbers only: epochs, steps."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def within(values: Any, unit: float = 1.0, window: tuple[float, float] = WINDOW) -> Any:
    """``values`` where ``low <= value / unit <= high``; NaN elsewhere, so that no curve is there.

    For a logarithmic axis: what is 0, infinite or far away has no place on it.
    """
    found: NDArray[np.float64] = np.asarray(values, np.float64)
    low, high = window[0] * unit, window[1] * unit
    with np.errstate(invalid="ignore"):
        return np.where((found >= low) & (found <= high), found, np.nan)


def lines_by_lag(
    axes: Axes, rows: pd.DataFrame, by: str, value: str, marker: str | None = None
) -> None:
    """A line over the lags for each value of the column ``by``."""
    groups = rows.groupby(by, sort=False)
    for (name, group), colour, style in zip(groups, cycle(COLOURS), cycle(STYLES), strict=False):
        axes.plot(group["lag"], group[value], color=colour, linestyle=style, marker=marker,
                  label=name)  # fmt: skip


def heat_map(figure: Figure, axes: Axes, flow: pd.DataFrame, column: str, label: str) -> None:
    """A column of a gradient flow over epochs and lags, on a logarithmic scale of colours."""
    grid = flow.pivot_table(index="lag", columns="epoch", values=column)
    values = within(grid.to_numpy(), float(np.nanmax(grid.to_numpy())))
    axes.grid(visible=False)
    image = axes.imshow(
        values, origin="lower", aspect="auto", cmap="cividis", interpolation="none",
        norm=LogNorm(), extent=(0.5, grid.shape[1] + 0.5, -0.5, grid.index.max() + 0.5),
    )  # fmt: skip
    axes.set(xlabel="epoch", ylabel="lag (steps back)")
    whole_numbers(axes)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(image, ax=axes, label=label)


def legend_below(figure: Figure, axes: Axes, columns: int, names: Sequence[str] = ()) -> None:
    """One legend for all panels, below them: that of ``axes``, or of its lines by ``names``."""
    handles, labels = axes.get_legend_handles_labels()
    if names:
        handles, labels = list(axes.lines), list(names)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
