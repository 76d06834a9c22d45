"""Scores of groups of runs as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from npnlp.drawing import Figure, picture
from npnlp.drawing.look import BLACK, BLUE, GREEN, PURPLE, VERMILION

SCORE_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
}


def score_marks(
    groups: Mapping[str, Sequence[Mapping[str, Any]]],
    title: str,
    path: str | Path | None = None,
    *,
    language: str = "en",
) -> Figure:
    """Each score of each group of runs: one mark per run, and a line at the mean."""
    looks = [(BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (PURPLE, "D")]
    with picture(path, language=language) as figure:
        axes = figure.add_subplot()
        for group, (label, rows) in enumerate(groups.items()):
            colour, marker = looks[group % len(looks)]
            for place, score in enumerate(SCORE_NAMES):
                x = place + 0.24 * (group - (len(groups) - 1) / 2)
                values = [row[score] for row in rows]
                spread = x + np.linspace(-0.05, 0.05, len(values) + 2)[1:-1]
                axes.plot(
                    spread, values, marker, color=colour, alpha=0.5, markersize=10,
                    label=label if place == 0 else None,
                )  # fmt: skip
                axes.plot([x - 0.08, x + 0.08], [np.mean(values)] * 2, color=BLACK)
        axes.set_xticks(range(len(SCORE_NAMES)), list(SCORE_NAMES.values()))
        axes.set(
            xlim=(-0.5, len(SCORE_NAMES) - 0.5), ylim=(0, 1), ylabel="score on all test rows",
            title=f"{title}\n(a mark a seed; line: mean)",
        )  # fmt: skip
        axes.legend()
    return figure
