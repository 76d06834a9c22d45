"""The picture of benchmarks/gpu.py, drawn from its CSV file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from npnlp import plots


def draw(csv: Path, path: Path, passes: Sequence[str]) -> None:
    """Median time against H for each cell and pass, at the longest T and largest B; the floor."""
    table = pd.read_csv(csv)
    steps, batch = int(table["T"].max()), int(table["B"].max())
    seen = table[(table["T"] == steps) & (table["B"] == batch) & (table["lengths"] == "padded")]
    cells = sorted(seen["cell"].unique())
    with plots.picture(path, width=18, height=2 + 5 * len(cells)) as figure:
        grid = figure.subplots(len(cells), len(passes), squeeze=False)
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
                axes.set(xscale="log", yscale="log", xlabel="hidden units H", ylabel="ms",
                         title=f"{cell}, {name}")  # fmt: skip
        figure.suptitle(f"T = {steps}, B = {batch}, all sequences T long")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
