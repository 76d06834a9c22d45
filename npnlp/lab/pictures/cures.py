"""The pictures of ``experiments/long_term_dependencies.py``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from npnlp.drawing import CELL_LOOKS, Axes, Figure, Look, picture
from npnlp.drawing.look import STYLES
from npnlp.lab.cures import WHEN
from npnlp.lab.variants import VARIANTS
from npnlp.plots.parts import Table, legend_below, table_of, within

#: The cell that each variant shows the colour of, where it is not that of its encoder.
CELL_OF = {"attention": "attention"}
#: Gradients below this are not drawn: where they go is seen by then.
FLOOR, CEILING = 1e-12, 1e12


def _looks() -> dict[str, Look]:
    """The colour of a variant is that of its cell; variants of a cell differ in line and mark."""
    found: dict[str, Look] = {}
    for name, variant in VARIANTS.items():
        cell = CELL_LOOKS[CELL_OF.get(name, str(variant.encoder.get("cell", "elman")))]
        before = sum(look.colour == cell.colour for look in found.values())
        marks = cell.mark + "sv^DXP*"
        found[name] = Look(cell.colour, STYLES[before], marks[before])
    return found


LOOKS = _looks()


def horizons(table: Table, path: str | Path | None = None, language: str = "en") -> Figure:
    """A panel a task, a line a variant: the lengths that were tried, and how far it came."""
    runs = table_of(table)
    tasks = list(runs["task"].unique())
    variants = [name for name in VARIANTS if name in set(runs["recipe"])]
    columns = min(2, len(tasks))
    lines = -(-len(tasks) // columns)
    height = (1.8 + 0.42 * len(variants)) * lines
    with picture(path, width=7.5 * columns, height=height, language=language) as figure:
        panels = figure.subplots(lines, columns, squeeze=False, sharey=True).reshape(-1)
        for axes, task in zip(panels, tasks, strict=False):
            _horizons_of(axes, runs[runs["task"] == task], variants, sorted(runs["T"].unique()))
            axes.set_title(task.replace("_", " "))
        for axes in panels[len(tasks) :]:
            axes.set_visible(False)
        figure.suptitle("Memory horizons (right): ● most seeds solve this length, × most do not")
    return figure


def _horizons_of(axes: Axes, runs: pd.DataFrame, variants: list[str], lengths: list[int]) -> None:
    """The lengths of one task that each variant solves, and does not."""
    beside = axes.get_yaxis_transform()
    for place, variant in enumerate(variants):
        colour = LOOKS[variant].colour
        found = runs[runs["recipe"] == variant].groupby("T")["solved"]
        if not len(found):
            continue
        most = found.sum() * 2 > found.count()
        good, bad = most.index[most], most.index[~most]
        if len(good):
            axes.plot([lengths[0], max(good)], [place, place], color=colour, linewidth=5)
        axes.plot(good, [place] * len(good), "o", color=colour, markersize=11)
        axes.plot(bad, [place] * len(bad), "x", color=colour, markersize=10, markeredgewidth=2)
        far = max(good, default=0)
        text = f"{'≥ ' * (far == max(most.index))}{far}"
        axes.text(1.01, place, text, transform=beside, va="center")
    axes.set_xscale("log")
    axes.set_xlim(lengths[0] * 0.85, lengths[-1] * 1.2)
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.set_xticks([], minor=True)
    axes.set_yticks(range(len(variants)), variants)
    axes.set(xlabel="length T (steps, log scale)", ylim=(len(variants) - 0.5, -0.5))


def jacobians(table: Table, path: str | Path | None = None, language: str = "en") -> Figure:
    """By lag, before and after training: the gradient, and the Jacobian's largest stretch."""
    table = table_of(table)
    rows = (
        ("relative", "|dL/ds| / |dL/ds| at lag 0", "Gradient that reaches each step"),
        ("largest", "largest singular value", "Product of the Jacobians, dh_T/ds"),
    )
    with picture(path, width=14, height=11, language=language) as figure:
        panels = figure.subplots(len(rows), len(WHEN), sharex=True, sharey="row")
        for line, (column, label, title) in zip(panels, rows, strict=True):
            for axes, when in zip(line, WHEN, strict=True):
                for variant, found in table[table["when"] == when].groupby("recipe", sort=False):
                    look = LOOKS[str(variant)]
                    axes.plot(found["lag"], within(found[column], 1.0, (FLOOR, CEILING)),
                              color=look.colour, linestyle=look.style, marker=look.mark,
                              markevery=max(1, len(found) // 8), label=variant)  # fmt: skip
                axes.set_yscale("log")
                axes.set(title=f"{title}, {when}", xlabel="lag: steps back from the last",
                         ylabel=label)  # fmt: skip
                axes.label_outer()
        legend_below(figure, panels[0][0], 6)
    return figure
