"""The picture of benchmarks/gpu.py, drawn from its CSV file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from npnlp import plots
from npnlp.drawing import NullFormatter, NullLocator
from npnlp.plots.parts import legend_below


def draw(csv: Path, path: Path, passes: Sequence[str]) -> None:
    """Median time against H for each cell and pass, at the longest T and largest B; the floor."""
    table = pd.read_csv(csv)
    steps, batch = int(table["T"].max()), int(table["B"].max())
    seen = table[(table["T"] == steps) & (table["B"] == batch) & (table["lengths"] == "padded")]
    cells = sorted(seen["cell"].unique())
    with plots.picture(path, width=18, height=2 + 5 * len(cells)) as figure:
        grid = figure.subplots(len(cells), len(passes), squeeze=False, sharey="row")
        sizes = sorted(seen["H"].unique().tolist())
        for row, cell in zip(grid, cells, strict=True):
            for axes, name in zip(row, passes, strict=True):
                part = seen[(seen["cell"] == cell) & (seen["pass"] == name)]
                for place, (way, of_way) in enumerate(part.groupby("way", sort=False)):
                    axes.plot(
                        of_way["H"], of_way["ms"], marker="o", label=str(way),
                        color=plots.COLOURS[place % len(plots.COLOURS)],
                        linestyle=plots.STYLES[place % len(plots.STYLES)],
                    )  # fmt: skip
                floor = part.drop_duplicates("H")
                axes.plot(floor["H"], floor["floor_ms"], color=plots.BLACK, label="floor")
                axes.set(xscale="log", yscale="log", xlabel="hidden units H",
                         ylabel="median ms", title=f"{cell}, {name}")  # fmt: skip
                axes.set_xticks(sizes, [str(size) for size in sizes])
                axes.yaxis.set_minor_formatter(NullFormatter())
                axes.xaxis.set_minor_locator(NullLocator())
                axes.label_outer()
        figure.suptitle(f"Time of each pass: T = {steps}, B = {batch}, all sequences T long")
        legend_below(figure, grid[0, 0], 5)
