"""How every picture looks: sizes for a slide, colours for colour-blind readers.

The colours are those of Okabe and Ito, "Color Universal Design", 2008. A line style and a mark
stand beside each, so that a picture is read without its colours, too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000",
)  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)
STYLES: Any = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
MARKS = ("o", "s", "^", "D", "v", "P")


class Look(NamedTuple):
    """The colour, the line style and the mark of a curve."""

    colour: str
    style: Any
    mark: str


#: The look of each cell, the same in all pictures.
CELL_LOOKS = {
    "elman": Look(BLUE, "-", "o"),
    "gru": Look(GREEN, "--", "^"),
    "lstm": Look(VERMILION, "-.", "s"),
    "transformer": Look(PURPLE, ":", "D"),
    "attention": Look(ORANGE, (0, (5, 1)), "P"),
}
#: The colour of each cell, the same in all pictures.
CELL_COLOURS = {cell: look.colour for cell, look in CELL_LOOKS.items()}

#: Where there is no cell, as in a bag of n-grams.
NO_CELL = Look(BLACK, "-", "o")


def look_of(name: str) -> Look:
    """The look of a model by its name: ``pytorch-gru`` and ``bigru-128`` are GRUs."""
    return next((look for cell, look in CELL_LOOKS.items() if cell in name), NO_CELL)


DPI = 120
#: The size of letters in points, in a picture of the usual width in inches. Wider ones have larger
#: letters: a page shows them all at its own width, where letters are 12 pixels high at 800 pixels.
LETTERS, WIDTH = 14.0, 12.0
STYLE: Any = {
    "axes.titlesize": "large",
    "axes.titley": 1.0,  # where it would be put; looking for a place takes a tenth of the time
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.hashsalt": "npnlp",  # the names of parts of an SVG follow from what they are
}


def sized(width: float) -> dict[str, Any]:
    """Settings for letters and lines of a picture that is ``width`` inches wide."""
    scale = max(1.0, width / WIDTH)
    return {
        "font.size": LETTERS * scale,
        "axes.labelpad": 4 * scale,
        "figure.labelsize": LETTERS * scale,
        "figure.titlesize": 1.2 * LETTERS * scale,
        "lines.linewidth": 2.5 * scale,
        "lines.markersize": 7 * scale,
    }
