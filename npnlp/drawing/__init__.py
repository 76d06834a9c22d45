"""Figures in the project's style: its colours and sizes, fonts, languages, and files."""

from npnlp.drawing.figure import Picture, picture
from npnlp.drawing.language import require_language
from npnlp.drawing.library import (
    Axes,
    Figure,
    LogLocator,
    LogNorm,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    PercentFormatter,
    Rectangle,
)
from npnlp.drawing.look import CELL_COLOURS, CELL_LOOKS, Look, look_of
from npnlp.drawing.numbers import power_of_ten
from npnlp.files.pictures import FORMATS, LANGUAGES, Output, format_of

__all__ = [
    "CELL_COLOURS",
    "CELL_LOOKS",
    "FORMATS",
    "LANGUAGES",
    "Axes",
    "Figure",
    "LogLocator",
    "LogNorm",
    "Look",
    "MaxNLocator",
    "NullFormatter",
    "NullLocator",
    "Output",
    "PercentFormatter",
    "Picture",
    "Rectangle",
    "format_of",
    "look_of",
    "picture",
    "power_of_ten",
    "require_language",
]
