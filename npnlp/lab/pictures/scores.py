"""The pictures of scores: the book's protocol, models compared, the parts of a recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from npnlp.drawing import Figure, PercentFormatter, look_of, picture
from npnlp.drawing.look import BLACK, BLUE, ORANGE, VERMILION
from npnlp.lab.comparison import paired_changes, paired_rows
from npnlp.plots.parts import Table, legend_below, table_of

#: The test accuracy that the book reports, and its Korean edition.
PUBLISHED = (0.415, 0.424)
WHOLE = "whole"


def book_protocol(table: Table, path: str | Path | None = None, language: str = "en") -> Figure:
    """The mean and the range over the seeds for each variant, and the published figures."""
    rows = table_of(table)
    with picture(path, language=language) as figure:
        axes = figure.add_subplot()
        low, high = (f"{100 * value:.1f} %" for value in PUBLISHED)
        axes.axvspan(*PUBLISHED, color=ORANGE, alpha=0.5, linewidth=0,
                     label=f"published: {low} and {high}")  # fmt: skip
        places = np.arange(len(rows))
        axes.hlines(places, rows["reported_min"], rows["reported_max"], color=BLUE, linewidth=6,
                    alpha=0.5, label="least to most of the seeds")  # fmt: skip
        axes.plot(rows["reported_mean"], places, "|", color=BLACK, markersize=22,
                  markeredgewidth=3, label="mean")  # fmt: skip
        axes.set_yticks(places, rows["variant"])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
        seeds = int(rows["seeds"].max())
        axes.set(
            xlabel="test accuracy as the protocol reports it",
            title=f"The book's protocol, one slip mended at a time ({seeds} seeds)",
        )
        legend_below(figure, axes, 3)
    return figure


def compare_models(table: Table, path: str | Path | None = None, language: str = "en") -> Figure:
    """A mark and an interval for each entrant, on all test names and on those train has not."""
    rows = table_of(table)
    places = np.arange(len(rows))[::-1]
    colours = [look_of(str(name)).colour for name in rows["entrant"]]
    with picture(path, width=14, height=2.6 + 0.46 * len(rows), language=language) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (score, title) in zip(
            panels, (("accuracy", "accuracy"), ("macro_f1", "macro F1")), strict=True
        ):
            for scope, label, fill, shift in (
                ("", "all test names", None, 0.16),
                ("unseen_", "names that train has not", "white", -0.16),
            ):
                means = rows[scope + score].to_numpy()
                highs = rows[f"{scope}{score}_high"].to_numpy()
                for place, mean, high, colour in zip(places, means, highs, colours, strict=True):
                    axes.errorbar(
                        mean, place + shift, xerr=high - mean if high > mean else None, fmt="o",
                        color=colour, markerfacecolor=fill or colour, elinewidth=2, capsize=4,
                    )  # fmt: skip
                axes.plot([], [], "o", color=BLACK, markerfacecolor=fill or BLACK, label=label)
            named = zip(rows["entrant"], rows["runs"], strict=True)
            axes.set_yticks(places, [f"{name} ({runs})" for name, runs in named])
            axes.set(xlabel=title, ylim=(-0.7, len(rows) - 0.3))
        figure.suptitle("Test scores (runs): mean and 95 % interval over seeds")
        legend_below(figure, panels[0], 2)
    return figure


def recipe_ablation(table: Table, path: str | Path | None = None, language: str = "en") -> Figure:
    """A bar for each variant: how far it is from the whole recipe, in points; a dot a run."""
    runs = [{str(k): v for k, v in row.items()} for row in table_of(table).to_dict("records")]
    rows = paired_rows(runs, "variant", WHOLE)[1:]
    places = np.arange(len(rows))[::-1]
    looks = (("accuracy", "accuracy", BLUE, "", 0.19),
             ("macro_f1", "macro F1", VERMILION, "//", -0.19))  # fmt: skip
    with picture(path, width=13, height=2.6 + 0.6 * len(rows), language=language) as figure:
        axes = figure.add_subplot()
        for name, label, colour, hatch, shift in looks:
            changes = paired_changes(runs, "variant", WHOLE, name)
            means = 100 * np.array([row[f"{name}_change"] for row in rows])
            highs = 100 * np.array([row[f"{name}_change_high"] for row in rows])
            axes.barh(places + shift, means, height=0.36, color=colour, hatch=hatch,
                      edgecolor="white", linewidth=0, label=label)  # fmt: skip
            if rows and rows[0]["runs"] > 2:  # of two runs it would span far more than they do
                axes.errorbar(means, places + shift, xerr=highs - means, fmt="none",
                              ecolor=BLACK, elinewidth=1.5, capsize=3)  # fmt: skip
            for place, row in zip(places, rows, strict=True):
                points = 100 * np.array(changes[row["variant"]])
                axes.plot(points, [place + shift] * len(points), "o", color=BLACK, markersize=5)
        axes.axvline(0, color=BLACK, linewidth=1)
        axes.set_yticks(places, [row["variant"] for row in rows])
        axes.set(
            xlabel="change on val against the whole recipe, in points (dots: seeds)",
            title="What the recipe loses or gains with one part changed",
            ylim=(-0.7, len(rows) - 0.3),
        )
        legend_below(figure, axes, 2)
    return figure
