"""The pictures of ``experiments/chain_rule.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from npnlp.drawing import Axes, Figure, Look, picture
from npnlp.drawing.look import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILION
from npnlp.gradients import chain_rule as notes
from npnlp.plots.parts import Table, table_of

LOOKS = [
    Look(BLUE, "-", "o"), Look(ORANGE, "--", "s"), Look(BLACK, ":", "D"), Look(GREEN, "-.", "^"),
    Look(VERMILION, (0, (5, 1)), "v"), Look(PURPLE, (0, (3, 1, 1, 1)), "P"),
]  # fmt: skip
#: What the panels of gradient descent show: w from, to, and J or w_2 from, to.
BOWL, VALLEY = (-2.5, 8.5, 0.0, 32.0), (-4.6, 2.0, -1.8, 1.8)
#: An error of zero has no place on a logarithmic axis.
NO_ERROR = 1e-17


def products(table: Table, path: str | Path | None = None, language: str = "en") -> Figure:
    """Products by step on a logarithmic axis: equal factors left, tanh right."""
    rows = table_of(table)
    with picture(path, language=language) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, kind, looks in (
            (left, "every factor", LOOKS[:5]),
            (right, "tanh:", [LOOKS[0], LOOKS[2], LOOKS[4], LOOKS[5]]),
        ):
            found = rows[rows["chain"].str.startswith(kind)].groupby("chain", sort=False)
            for (chain, of_chain), look in zip(found, looks, strict=True):
                label = str(chain).removeprefix("tanh: ").replace("h_0", "h₀")
                axes.plot(of_chain["step"], of_chain["product"], color=look.colour,
                          linestyle=look.style, label=label)  # fmt: skip
            axes.set(xlabel="number of factors", yscale="log")
            axes.legend(loc="lower left")
        left.set(title="The same factor each step", ylabel="product of the local derivatives")
        right.set(title="w times the slope of tanh, h ← tanh(w h)")
    return figure


def derivatives(table: Table, path: str | Path | None = None, language: str = "en") -> Figure:
    """``dz/dy`` over y with the slip beside it, and the error of both numerical ways by h."""
    sizes = table_of(table)
    y = np.linspace(-3, 3, 241)
    with picture(path, language=language) as figure:
        left, right = figure.subplots(1, 2)
        left.plot(y, [notes.dz_dy(1, v) for v in y], color=BLUE, label="2x²(1 − y²)/(1 + y²)²")
        left.plot(y, [notes.dz_dy_first_term(1, v) for v in y], "--", color=VERMILION,
                  label="2x²/(1 + y²): second\nterm forgotten")  # fmt: skip
        left.plot(y[::20], [notes.complex_step(*notes.along("y", 1, v)) for v in y[::20]], "o",
                  color=BLACK, label="complex step")  # fmt: skip
        left.set(title="dz/dy at x = 1", xlabel="y", ylabel="dz/dy", ylim=(-0.6, 3.4))
        left.legend(loc="upper left")
        for (way, of_way), look in zip(sizes.groupby("way"), LOOKS, strict=False):
            right.plot(of_way["h"], of_way["error"].clip(lower=NO_ERROR), color=look.colour,
                       linestyle=look.style, marker=look.mark, label=way)  # fmt: skip
        right.set(
            title="Error in dz/dy by step size", xlabel="step size h",
            ylabel="relative error (0 drawn as 10⁻¹⁷)", xscale="log", yscale="log",
        )  # fmt: skip
        right.legend(loc="center left")
    return figure


def descents(table: Table, path: str | Path | None = None, language: str = "en") -> Figure:
    """The paths on the parabola and over the contours of the valley, as far as in the frame."""
    rows = table_of(table)
    with picture(path, height=7.5, language=language) as figure:
        left, right = figure.subplots(1, 2)
        w = np.linspace(*BOWL[:2], 201)
        height = (w - 3) ** 2 + 1
        left.plot(w, np.where(height <= BOWL[3], height, np.nan), color=BLACK, linewidth=1)
        u, v = np.meshgrid(np.linspace(*VALLEY[:2], 100), np.linspace(*VALLEY[2:], 100))
        right.contour(u, v, (u * u + 10 * v * v) / 2, levels=10, colors="grey", linewidths=0.8)
        for name, axes, up, (low, high) in (
            ("bowl", left, "J", BOWL[2:]), ("valley", right, "w_2", VALLEY[2:]),
        ):  # fmt: skip
            of_function = rows[rows["function"] == name].groupby(["rate", "eta"], sort=False)
            for ((rate, eta), found), look in zip(
                of_function, [LOOKS[0], LOOKS[3], LOOKS[4]], strict=True
            ):
                inside = found[up].between(low, high).cumprod().astype(bool)
                seen, steps = found[inside], int(inside.sum()) - 1
                left_it = "" if inside.all() else f", {steps} steps in the picture"
                axes.plot(seen["w_1"], seen[up], color=look.colour, linestyle=look.style,
                          marker=look.mark, linewidth=1.5,
                          label=f"η = {eta}: {rate}{left_it}")  # fmt: skip
        left.set(title="J(w) = (w − 3)² + 1", xlabel="w", ylabel="J(w)",
                 xlim=BOWL[:2], ylim=BOWL[2:])  # fmt: skip
        right.set(title="J(w) = (w₁² + 10 w₂²)/2", xlabel="w₁", ylabel="w₂",
                  xlim=VALLEY[:2], ylim=VALLEY[2:])  # fmt: skip
        for axes in (left, right):
            _legend_under(axes)
    return figure


def _legend_under(axes: Axes) -> None:
    """A legend below the label of x."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13))
