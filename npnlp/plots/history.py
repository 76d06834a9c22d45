"""The course of a training: loss and accuracy, and norms of the gradient, by epoch."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import pandas as pd

from npnlp.drawing import Figure, picture
from npnlp.drawing.look import BLACK, BLUE, COLOURS, ORANGE, STYLES
from npnlp.plots.parts import Table, table_of, whole_numbers


def learning_curves(
    history: Table, path: str | Path | None = None, *, language: str = "en"
) -> Figure:
    """Loss and accuracy by epoch, with the best epoch marked, from ``history.csv``."""
    history, epochs, marker = _history(history)
    best = int(history["val_loss"].argmin())
    with picture(path, language=language) as figure:
        labels = {"loss": "cross-entropy loss (nats)", "accuracy": "accuracy"}
        for place, (quantity, label) in enumerate(labels.items(), start=1):
            axes = figure.add_subplot(1, 2, place)
            train, val = history[f"train_{quantity}"], history[f"val_{quantity}"]
            axes.plot(epochs, train, color=BLUE, marker=marker)
            axes.plot(epochs, val, color=ORANGE, linestyle="--", marker=marker)
            axes.axvline(epochs[best], color=BLACK, linewidth=1, linestyle=":")
            axes.set(xlabel="epoch", ylabel=label, title=quantity.capitalize())
            whole_numbers(axes)
            names = ["train, dropout on", "validation", f"best epoch, {epochs[best]}"]
            axes.legend(axes.lines, names, loc="best")
    return figure


def gradient_norms(
    history: Table, path: str | Path | None = None, *, language: str = "en"
) -> Figure:
    """The gradient norm by epoch, of all parameters and of each weight, from ``history.csv``."""
    history, epochs, marker = _history(history)
    prefix = "grad_norm."
    matrices = [c for c in map(str, history) if c.startswith(prefix) and "weight" in c]
    with picture(path, language=language) as figure:
        axes = figure.add_subplot()
        axes.plot(epochs, history["grad_norm"], color=BLACK, linewidth=4, marker=marker)
        for column, colour, style in zip(matrices, cycle(COLOURS), cycle(STYLES), strict=False):
            axes.plot(epochs, history[column], color=colour, linestyle=style, marker=marker)
        axes.set_yscale("log")
        axes.set(
            xlabel="epoch",
            ylabel="gradient norm, mean over batches",
            title="Gradient norm by epoch, before clipping",
        )
        whole_numbers(axes)
        names = ["all parameters", *(column.removeprefix(prefix) for column in matrices)]
        axes.legend(axes.lines, names, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _history(history: Table) -> tuple[pd.DataFrame, Any, str | None]:
    """The table, its epochs from 1 on, and the marker of a curve, which one point needs."""
    table = table_of(history)
    return table, table["epoch"].to_numpy() + 1, "o" if len(table) == 1 else None
