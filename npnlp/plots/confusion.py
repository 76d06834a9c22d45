"""The confusion matrix as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from npnlp.confusion import largest_classes, read_confusion
from npnlp.drawing import Figure, PercentFormatter, picture
from npnlp.plots.tables import Table

#: A class's name is drawn up to this length.
LONGEST_NAME = 24
#: A confusion matrix shows this many classes: a larger picture is read by nobody, and a side of a
#: thousand classes would not fit memory. With more, the last one stands for all that are left.
MOST_CLASSES = 40
#: As many of its cells have a number in them, the largest ones.
MOST_NUMBERS = 400


def confusion_matrix(matrix: Table, path: str | Path | None = None) -> Figure:
    """The fraction of each true class predicted as each class, from ``confusion_matrix.csv``.

    Classes with most rows come first; of more than :data:`MOST_CLASSES` the last row and column are
    the others together. The columns are the classes of the rows in the same order: they are taken
    by position, since a class may have any name.
    """
    label, names, table = read_confusion(matrix)
    named, counts = largest_classes(table, MOST_CLASSES)
    order, what = [_shown(names[place]) for place in named], "in % of each row"
    if rest := len(names) - len(named):
        order.append(f"the other {rest:,} classes")
        what += f": the {len(named)} largest of {len(names):,} classes, the others together"
    totals = counts.sum(axis=1)
    share = counts / np.maximum(totals, 1)[:, None]
    size = max(7.0, 0.62 * len(order) + 3)
    with picture(path, width=size + 1.5, height=size, texts=order) as figure:
        axes = figure.add_subplot()
        axes.grid(visible=False)
        image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
        axes.set_xticks(range(len(order)), order, rotation=60, ha="right")
        axes.set_yticks(
            range(len(order)), [f"{n} ({c})" for n, c in zip(order, totals, strict=True)]
        )
        least = max(0.005, np.sort(share, axis=None)[-MOST_NUMBERS:][0])
        for row, column in zip(*np.nonzero(share >= least), strict=True):
            value = share[row, column]
            axes.text(
                column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=11,
                color="black" if value > 0.5 else "white", in_layout=False,
            )  # fmt: skip
        axes.set(
            xlabel=f"predicted {label}",
            ylabel=f"true {label} (test rows)",
            title=f"Where the test names go, {what}",
        )
        share_of_row = PercentFormatter(xmax=1)
        figure.colorbar(image, ax=axes, label="share of the row", format=share_of_row, shrink=0.8)
    return figure


def _shown(name: str) -> str:
    """A class's name as it is drawn: on one line, and not long."""
    text = "".join(letter if letter.isprintable() else " " for letter in name)
    text = text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"
    return text.replace("$", r"\$")  # Matplotlib takes text between two of them for mathematics
