"""Figures in the project's style: its colours and sizes, fonts, and files."""

from npnlp.drawing.figure import FORMATS, Picture, format_of, picture
from npnlp.drawing.library import Axes, Figure, MaxNLocator, PercentFormatter, Rectangle
from npnlp.drawing.look import CELL_COLOURS, CELL_LOOKS, Look

__all__ = [
    "CELL_COLOURS",
    "CELL_LOOKS",
    "FORMATS",
    "Axes",
    "Figure",
    "Look",
    "MaxNLocator",
    "PercentFormatter",
    "Picture",
    "Rectangle",
    "format_of",
    "picture",
]
