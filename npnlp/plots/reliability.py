"""Whether probabilities are right, as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from npnlp.drawing import Figure, picture
from npnlp.drawing.look import BLACK, BLUE, ORANGE
from npnlp.plots.parts import Table, table_of

#: A share of fewer names says little; its mark is hollow.
FEW = 10


def reliability(
    reliability: Table, path: str | Path | None = None, *, language: str = "en"
) -> Figure:
    """How often answers are right against how probable they are; one curve if nothing changed.

    From ``reliability.csv``.
    """
    table = table_of(reliability)
    before, after = (table[table["calibrated"] == which].iloc[:, 1:] for which in (0, 1))
    if np.array_equal(before, after):
        table = table[table["calibrated"] == 1]
    looks = {0: ("before calibration", ORANGE, "s", "--"), 1: ("as saved", BLUE, "o", "-")}
    with picture(path, language=language) as figure:
        axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        axes.plot([0, 1], [0, 1], color=BLACK, linewidth=1, linestyle=":", label="as it should be")
        for calibrated, rows in table.groupby("calibrated"):
            label, colour, marker, style = looks[int(str(calibrated))]
            axes.plot(rows["confidence"], rows["accuracy"], color=colour, marker=marker,
                      linestyle=style, label=label)  # fmt: skip
            few = rows[rows["rows"] < FEW]
            axes.plot(few["confidence"], few["accuracy"], marker, color=colour,
                      markerfacecolor="white")  # fmt: skip
        middle, width = (rows["low"] + rows["high"]) / 2, rows["high"] - rows["low"]
        counts.bar(middle, rows["rows"], 0.9 * width, color=BLUE)
        axes.set(
            ylabel="share of right answers", xlim=(0, 1), ylim=(-0.03, 1.03),
            title=f"Are the probabilities right? Test names (hollow: fewer than {FEW} of them)",
        )  # fmt: skip
        counts.set(xlabel="probability of the answer", ylabel="names")
        axes.legend(loc="lower right")
    return figure
