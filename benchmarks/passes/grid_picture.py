"""The heat map of benchmarks/against_frameworks.py --grid, drawn from its CSV file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from npnlp import plots
from npnlp.drawing import Axes, Rectangle

#: Orange is slower than the faster of PyTorch and JAX, purple faster; colour-blind readers see
#: both.
COLOURS = "PuOr"
#: Colours end at this ratio and at one over it; numbers do not.
ENDS = 8.0
#: A square below this gets a frame.
WANTED = 1.5
NAMES = {"elman": "Elman", "gru": "GRU", "lstm": "LSTM"}


def draw(csv: Path, path: Path) -> None:
    """A panel for each cell and pass: the ratio by B, and by H within T, as colour and number."""
    table = pd.read_csv(csv)
    cells, passes = list(dict.fromkeys(table["cell"])), list(dict.fromkeys(table["pass"]))
    cells.sort()
    columns = table[["T", "H"]].drop_duplicates().sort_values(["T", "H"]).to_numpy().tolist()
    batches = sorted(table["B"].unique().tolist())
    width = max(4.0, 0.66 * len(columns)) * len(passes) + 3
    height = max(2.4, 0.5 * len(batches) + 1.3) * len(cells) + 1.6
    with plots.picture(path, width=width, height=height) as figure:
        grid = figure.subplots(len(cells), len(passes), squeeze=False)
        image: Any = None
        for row, cell in zip(grid, cells, strict=True):
            for axes, name in zip(row, passes, strict=True):
                seen = table[(table["cell"] == cell) & (table["pass"] == name)]
                image = _panel(axes, seen, batches, columns)
                axes.set_title(f"{NAMES.get(cell, cell)}, {name}")
                axes.label_outer()
        ticks = [1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8]
        others = "PyTorch or JAX, the faster" if "jax_ms" in table else "PyTorch"
        bar = figure.colorbar(image, ax=grid, label=f"times as fast as {others}", pad=0.01)
        bar.set_ticks(np.log2(ticks).tolist(), labels=["1/8", "1/4", "1/2", "1", "2", "4", "8"])
        figure.suptitle(f"Time of {others}, over ours; a frame where that is below {WANTED}")


def _panel(axes: Axes, seen: pd.DataFrame, batches: list[int], columns: list[list[int]]) -> Any:
    """Draw one panel; what was not measured stays empty."""
    ratios = np.full((len(batches), len(columns)), np.nan)
    for _, square in seen.iterrows():
        place = batches.index(square["B"]), columns.index([square["T"], square["H"]])
        ratios[place] = square["ratio"]
    axes.grid(visible=False)
    end = np.log2(ENDS)
    image = axes.imshow(np.log2(ratios), cmap=COLOURS, vmin=-end, vmax=end, aspect="auto")
    for row, column in np.argwhere(np.isfinite(ratios)).tolist():
        ratio = ratios[row, column]
        dark = abs(np.log2(ratio)) > 0.6 * np.log2(ENDS)
        text = f"{ratio:.1f}" if ratio >= 1.95 else f"{ratio:.2f}"
        axes.text(column, row, text, fontsize="x-small", ha="center", va="center",
                  color="white" if dark else "black")  # fmt: skip
        if ratio < WANTED:
            axes.add_patch(
                Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, lw=2, zorder=2)
            )
    for edge in range(1, len(columns)):
        if columns[edge][0] != columns[edge - 1][0]:
            axes.axvline(edge - 0.5, color="white", lw=5, zorder=1)
    axes.set_yticks(range(len(batches)), [str(batch) for batch in batches])
    labels = []
    for number, (steps, hidden) in enumerate(columns):
        first = number == 0 or columns[number - 1][0] != steps
        labels.append(f"{hidden}\nT = {steps}" if first else str(hidden))
    axes.set_xticks(range(len(columns)), labels, fontsize="small")
    axes.set(xlabel="hidden units H, within steps T", ylabel="sequences B")
    return image
