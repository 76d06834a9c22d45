"""What a picture is drawn from: a table, or the CSV file that holds it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from npnlp.drawing import Axes, MaxNLocator

#: A DataFrame with the columns of a run's CSV file, or that file.
Table = pd.DataFrame | str | Path


def table_of(table: Table) -> pd.DataFrame:
    """The table itself, or what its file holds."""
    return table if isinstance(table, pd.DataFrame) else pd.read_csv(table)


def whole_numbers(axes: Axes) -> None:
    """Ticks of x at whole numbers only: epochs, steps."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
