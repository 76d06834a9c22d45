"""All pictures of a training run, drawn from its CSV files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from npnlp.drawing import Output
from npnlp.plots.confusion import confusion_matrix
from npnlp.plots.flow import gradient_flow
from npnlp.plots.history import gradient_norms, learning_curves
from npnlp.plots.reliability import reliability


def draw_run(save_dir: Path, kind: str = "png", language: str = "en") -> list[Path]:
    """Draw every picture of a training run from its CSV files; returns the paths.

    ``kind`` is one of :data:`npnlp.drawing.FORMATS`, ``language`` that of the labels.
    """
    output, drawn = Output(save_dir, kind, language), []
    for draw, table in (
        (learning_curves, "history.csv"), (gradient_norms, "history.csv"),
        (confusion_matrix, "confusion_matrix.csv"), (reliability, "reliability.csv"),
        (gradient_flow, "gradient_flow.csv"),
    ):  # fmt: skip
        if len(pd.read_csv(save_dir / table, nrows=1)):  # one is empty where nothing was recorded
            drawn.append(output.path(draw.__name__))
            draw(save_dir / table, drawn[-1], language=language)
    return [path for path in drawn if path.exists()]
