"""The confusion matrix as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.confusion import families_together, largest_classes, read_confusion
from npnlp.drawing import Axes, Figure, PercentFormatter, picture
from npnlp.plots.parts import Table

#: A class's name is drawn up to this length.
LONGEST_NAME = 24
#: A confusion matrix shows this many classes: a larger picture is read by nobody, and a side of a
#: thousand classes would not fit memory. With more, the last one stands for all that are left.
MOST_CLASSES = 40
#: As many of its cells have a number in them, the largest ones.
MOST_NUMBERS = 400
#: The colours from 0 to 1: white to one colour, which colour-blind readers and printers see as
#: light to dark. Numbers are white above DARK and black below, where both stand out as much: at
#: least 4.5 to 1.
COLOURS, DARK = "Blues", 0.72
#: The size of the numbers in points, in squares of a little more than a third of an inch.
NUMBERS = 14


def confusion_matrix(
    matrix: Table, path: str | Path | None = None, *, language: str = "en"
) -> Figure:
    """The fraction of each true class predicted as each class, from ``confusion_matrix.csv``.

    From white to one colour. Classes that are taken for each other stand together
    (:func:`npnlp.confusion.families_together`); of more than :data:`MOST_CLASSES` the last row and
    column are the others together. The columns are the classes of the rows in the same order: they
    are taken by position, since a class may have any name.
    """
    label, names, table = read_confusion(matrix)
    named, counts = largest_classes(table, MOST_CLASSES)
    line = families_together(counts[: len(named), : len(named)])
    order, what = [_shown(names[named[place]]) for place in line], "in % of each row"
    if rest := len(names) - len(named):
        line.append(len(named))
        order.append(f"the other {rest:,} classes")
        what += f", {len(named)} of {len(names):,} classes"
    counts = counts[np.ix_(line, line)]
    totals = counts.sum(axis=1)
    share = counts / np.maximum(totals, 1)[:, None]
    size = max(7.0, 0.5 * len(order) + 3)
    with picture(
        path, width=size + 1.8, height=size, texts=[label, *order], language=language
    ) as figure:
        axes = figure.add_subplot()
        image = _squares(axes, share)
        places = range(len(order))
        axes.set_xticks(places, order, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(places, [f"{n} ({c})" for n, c in zip(order, totals, strict=True)])
        axes.set(
            xlabel=f"predicted {label}",
            ylabel=f"true {label} (test rows)",
            title=f"Where the test names go, {what}\n(classes taken for each other are neighbours)",
        )
        share_of_row = PercentFormatter(xmax=1)
        figure.colorbar(image, ax=axes, label="share of the row", format=share_of_row, shrink=0.8)
    return figure


def _squares(axes: Axes, share: NDArray[np.float64]) -> Any:
    """The shares as colours between thin lines, and the largest as numbers, in percent."""
    image = axes.imshow(share, cmap=COLOURS, vmin=0, vmax=1)
    edges = np.arange(len(share) - 1) + 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(visible=False)
    axes.grid(which="minor", color="0.92", linewidth=0.8, alpha=1)
    axes.tick_params(which="minor", length=0)
    least = max(0.005, np.sort(share, axis=None)[-MOST_NUMBERS:][0])
    for row, column in zip(*np.nonzero(share >= least), strict=True):
        value = share[row, column]
        axes.text(
            column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=NUMBERS,
            color="white" if value > DARK else "black", in_layout=False,
        )  # fmt: skip
    return image


def _shown(name: str) -> str:
    """A class's name as it is drawn: on one line, and not long."""
    text = "".join(letter if letter.isprintable() else " " for letter in name)
    text = text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"
    return text.replace("$", r"\$")  # Matplotlib takes text between two of them for mathematics
