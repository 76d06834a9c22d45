"""The picture of an explained name, in the style of :mod:`npnlp.plots`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from npnlp.classifier.explanation import Explanation
from npnlp.drawing import Axes, Figure, picture
from npnlp.drawing.look import BLACK, BLUE, ORANGE, VERMILION
from npnlp.plots.confusion import COLOURS, DARK

#: The labels that are shown: the most probable ones after any letter.
LABELS = 7


def explanation(
    found: Sequence[Explanation], path: str | Path | None = None, *, language: str = "en"
) -> Figure:
    """A column for each part of the name: what is believed, the gradient, the contributions."""
    widths = [max(len(each.letters), 6) for each in found]
    texts = [each.surname for each in found] + list(found[0].labels)
    size = {"width": 3.5 + 0.75 * sum(widths), "height": 9.5}
    with picture(path, **size, texts=texts, language=language) as figure:
        columns = figure.subplots(
            3, len(found), squeeze=False, height_ratios=[3, 1.6, 3], width_ratios=widths
        )
        for (believed, gradient, shares), each in zip(columns.T, found, strict=True):
            _believed(believed, each)
            places = np.arange(len(each.letters))
            gradient.bar(places, [letter.gradient for letter in each.letters], color=VERMILION)
            gradient.set(ylabel="norm of ∂g/∂eₜ", title="The gradient that reaches each letter")
            _shares(shares, places, each)
            for axes in (believed, gradient, shares):
                axes.set_xticks(
                    places, [letter.letter for letter in each.letters], fontsize="large"
                )
                axes.set_xlim(-0.6, len(places) - 0.4)
                axes.grid(visible=False, axis="x")
    return figure


def _believed(axes: Axes, found: Explanation) -> None:
    """The probabilities after each letter, of the labels that are the most probable at any."""
    table = np.array([letter.probabilities for letter in found.letters]).T
    most = np.argsort(-table.max(axis=1), kind="stable")[:LABELS]
    shown = sorted(most.tolist(), key=lambda label: -table[label, -1])
    axes.grid(visible=False)
    axes.imshow(table[shown], cmap=COLOURS, vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(len(shown)), [found.labels[label] for label in shown])
    for row, column in zip(*np.nonzero(table[shown] >= 0.05), strict=True):
        value = table[shown][row, column]
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize="small",
                  color="white" if value > DARK else "black")  # fmt: skip
    axes.set_title(f"{found.surname}: the probabilities after each letter")


def _shares(axes: Axes, places: Any, found: Explanation) -> None:
    """Both methods side by side; the first sums to the difference."""
    shared = [letter.contribution for letter in found.letters]
    left_out = [letter.left_out for letter in found.letters]
    axes.bar(places - 0.2, shared, 0.4, color=BLUE, label="integrated gradients")
    axes.bar(places + 0.2, left_out, 0.4, color=ORANGE, hatch="//", label="lost without it")
    axes.axhline(0, color=BLACK, linewidth=1)
    axes.set(
        ylabel="difference of logits",
        title=f"What each letter adds to {found.answer}, against {found.runner_up}",
    )
    axes.legend()
