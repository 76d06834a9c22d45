"""The picture of benchmarks/roofline.py, drawn from its CSV file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from npnlp import plots

NAMES = {"elman": "Elman", "gru": "GRU", "lstm": "LSTM"}
#: Columns of the floor and of what is beyond it, from below, with label, colour and hatch.
LAYERS = (
    ("floor_products_us", "products", plots.BLUE, ""),
    ("floor_tanh_us", "tanh", plots.SKY, ""),
    ("floor_elementwise_us", "other elementwise", plots.GREEN, ""),
    ("floor_gather_us", "gather", plots.ORANGE, ""),
    ("floor_optimizer_us", "optimizer", plots.PURPLE, ""),
    ("beyond_small_products_us", "products, beyond", plots.BLUE, "//"),
    ("beyond_elementwise_us", "elementwise, beyond", plots.GREEN, "//"),
    ("beyond_gather_us", "gather, beyond", plots.ORANGE, "//"),
    ("beyond_optimizer_us", "optimizer, beyond", plots.PURPLE, "//"),
    ("beyond_interpreter_us", "interpreter", plots.VERMILION, "//"),
)


def draw(csv: Path, path: Path, bound: float) -> None:
    """A bar for each cell and size: parts of the floor, and above it what the step has on top."""
    table = pd.read_csv(csv)
    cells = list(dict.fromkeys(table["cell"]))
    with plots.picture(path, width=4 + 4.6 * len(cells), height=8) as figure:
        panels = figure.subplots(1, len(cells), squeeze=False, sharey=True)[0]
        for axes, cell in zip(panels, cells, strict=True):
            seen = table[table["cell"] == cell].sort_values("H")
            places, height = np.arange(len(seen)), np.zeros(len(seen))
            for column, label, colour, hatch in LAYERS:
                # What took less time in the step than on its own has no height.
                part = np.maximum((seen[column].fillna(0) / seen["floor_us"]).to_numpy(), 0)
                axes.bar(places, part, bottom=height, color=colour, hatch=hatch, label=label,
                         edgecolor="white", linewidth=0.5, width=0.8)  # fmt: skip
                height += part
            ratios = seen["ratio"].to_numpy()
            axes.plot(places, ratios, "D", color=plots.BLACK, label="the step, measured")
            tops = np.maximum(height, ratios) + 0.03
            for place, top, step in zip(places, tops, seen["step_us"], strict=True):
                axes.text(place, top, f"{step / 1000:.2f} ms", ha="center", va="bottom")
            axes.axhline(1, color=plots.BLACK, linewidth=1.5)
            axes.axhline(bound, color=plots.BLACK, linewidth=1.5, linestyle=":")
            axes.set_xticks(places, [str(hidden) for hidden in seen["H"]])
            axes.grid(visible=False, axis="x")
            axes.set(xlabel="hidden units H", title=NAMES.get(cell, cell))
        panels[0].set(ylabel="time of a training step, over its floor")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside right center",
                      title=f"floor: plain, below the line at 1\ndotted line: {bound}")  # fmt: skip
