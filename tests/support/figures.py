"""What a figure shows: its texts, and whether it is all inside its frames and told apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text


def texts_of(figure: Figure) -> set[str]:
    """Every text that is drawn, ticks included."""
    figure.draw_without_rendering()
    return {text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)} - {""}


def outside(figure: Figure) -> Iterator[tuple[str, float, float]]:
    """Points of curves that lie outside the frame of their axes, with the curve's label."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        low, high = sorted(axes.get_ylim())
        left, right = sorted(axes.get_xlim())
        for line in axes.lines:
            if line.get_transform() != axes.transData:
                continue  # a line across the whole frame
            points = np.asarray(line.get_xydata(), float)
            for x, y in points[np.isfinite(points).all(axis=1)]:
                if not (left <= x <= right and low <= y <= high):
                    yield str(line.get_label()), float(x), float(y)


def without_legend(figure: Figure) -> list[str]:
    """The titles of panels with several labelled curves and no legend, beside them or of all."""
    if figure.legends:
        return []
    return [
        axes.get_title()
        for axes in figure.axes
        if len(axes.get_legend_handles_labels()[1]) > 1 and axes.get_legend() is None
    ]


def exponents(figure: Figure) -> list[int]:
    """The powers of ten at the ticks of all logarithmic axes."""
    figure.draw_without_rendering()
    found: list[int] = []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":
                low, high = sorted(axis.get_view_interval())
                ticks: Any = axis.get_majorticklocs()
                found += [round(np.log10(tick)) for tick in ticks if low <= tick <= high]
    return found
