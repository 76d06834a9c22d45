"""Pictures of a run: each is a Matplotlib figure, drawn from a table or from its CSV file.

``learning_curves(table)`` returns the figure, which shows itself in a notebook;
``learning_curves(table, "curves.png")`` writes it as well, as PNG, SVG or PDF by the name's ending.
"""

from npnlp.drawing import CELL_COLOURS, CELL_LOOKS, picture
from npnlp.drawing.look import (
    BLACK,
    BLUE,
    COLOURS,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    STYLES,
    VERMILION,
)
from npnlp.plots.confusion import confusion_matrix
from npnlp.plots.flow import flow_by_part, gradient_flow
from npnlp.plots.history import gradient_norms, learning_curves
from npnlp.plots.reliability import reliability
from npnlp.plots.run import draw_run
from npnlp.plots.scores import SCORE_NAMES, score_marks

__all__ = [
    "BLACK",
    "BLUE",
    "CELL_COLOURS",
    "CELL_LOOKS",
    "COLOURS",
    "GREEN",
    "ORANGE",
    "PURPLE",
    "SCORE_NAMES",
    "SKY",
    "STYLES",
    "VERMILION",
    "confusion_matrix",
    "draw_run",
    "flow_by_part",
    "gradient_flow",
    "gradient_norms",
    "learning_curves",
    "picture",
    "reliability",
    "score_marks",
]
