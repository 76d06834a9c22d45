"""The picture of runs that are compared, in the style of :mod:`npnlp.plots`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from npnlp.drawing import CELL_COLOURS, Axes, Figure, MaxNLocator, picture
from npnlp.drawing.look import MARKS, STYLES
from npnlp.runs.comparison import Comparison, Seen

#: Of a run that does not name its cell.
OTHER = "#777777"
#: How far the last of several runs of a cell is on the way from its colour to white.
LIGHTEST = 0.6
#: Gradients below this are not drawn: where they go is seen by then.
FLOOR = 1e-8


def comparison(found: Comparison, path: str | Path | None = None) -> Figure:
    """Loss and macro F1 by epoch above; below, the gradient by lag in the first and last epoch."""
    names = [run.name for run in found.runs]
    with picture(path, width=15, height=10, texts=names) as figure:
        (loss, score), (first, last) = figure.subplots(2, 2)
        first.sharey(last)
        for run, look in zip(found.runs, looks(found.runs), strict=True):
            epochs = run.history["epoch"] + 1
            alone = {**look, "marker": look["marker"] if len(epochs) == 1 else None}
            loss.plot(epochs, run.history["val_loss"], **alone)
            score.plot(epochs, run.history["val_macro_f1"], **alone)
            for axes, at_end in ((first, False), (last, True)):
                left = run.gradient(at_end)
                left = left[left["left"] >= FLOOR]
                axes.plot(left["lag"], left["left"], markersize=6, **look)
        _label(loss, "epoch", "cross-entropy loss (nats)", "Loss on validation names")
        _label(score, "epoch", "macro F1", "Macro F1 on validation names")
        for axes, when in ((first, "first"), (last, "last")):
            lag = "lag: steps back from the last character"
            _label(axes, lag, "norm of dL/dh, that of lag 0 = 1",
                   f"Gradient that is left, {when} epoch")  # fmt: skip
            axes.set_yscale("log")
        loss.legend(loc="best")
    return figure


def looks(runs: tuple[Seen, ...]) -> list[dict[str, Any]]:
    """Colour, line and marker of each run: the cell's colour, lighter for its second, third, ..."""
    total, seen = Counter(run.cell for run in runs), Counter[str]()
    found = []
    for place, run in enumerate(runs):
        share = LIGHTEST * seen[run.cell] / max(total[run.cell] - 1, 1)
        seen[run.cell] += 1
        found.append({
            "color": _lighter(CELL_COLOURS.get(run.cell, OTHER), share),
            "linestyle": STYLES[place % len(STYLES)],
            "marker": MARKS[place % len(MARKS)],
            "label": label(run),
        })  # fmt: skip
    return found


def label(run: Seen) -> str:
    """The run's name, and its cell where the name does not have it."""
    cell = "" if not run.cell or run.cell in run.name else f" ({run.cell})"
    return f"{run.name}{cell}".replace("$", r"\$")


def _lighter(colour: str, share: float) -> str:
    """A colour ``#rrggbb``, that share of the way to white."""
    parts = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)


def _label(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
