"""Pictures of a run, drawn from its CSV files.

The colours are those of Okabe and Ito, which colour-blind readers can tell apart; the sizes are
those of a slide. :mod:`npnlp.drawing` sees to it that they look the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from npnlp.confusion import largest_classes, read_confusion
from npnlp.drawing import Axes, Figure, MaxNLocator, PercentFormatter
from npnlp.drawing import picture as picture

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000",
)  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)
STYLES: Any = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
#: A class's name is drawn up to this length.
LONGEST_NAME = 24
#: A confusion matrix shows this many classes: a larger picture is read by nobody, and a side of a
#: thousand classes would not fit memory. With more, the last one stands for all that are left.
MOST_CLASSES = 40
#: As many of its cells have a number in them, the largest ones.
MOST_NUMBERS = 400


def learning_curves(history_csv: str | Path, path: str | Path) -> None:
    """Loss and accuracy by epoch, with the best epoch marked, from ``history.csv``."""
    history, epochs, marker = _history(history_csv)
    best = int(history["val_loss"].argmin())
    with picture(path) as figure:
        labels = {"loss": "cross-entropy loss (nats)", "accuracy": "accuracy"}
        for place, (quantity, label) in enumerate(labels.items(), start=1):
            axes = figure.add_subplot(1, 2, place)
            train, val = history[f"train_{quantity}"], history[f"val_{quantity}"]
            axes.plot(epochs, train, color=BLUE, marker=marker)
            axes.plot(epochs, val, color=ORANGE, linestyle="--", marker=marker)
            axes.axvline(epochs[best], color=BLACK, linewidth=1, linestyle=":")
            axes.set(xlabel="epoch", ylabel=label, title=quantity.capitalize())
            _whole_numbers(axes)
            names = ["train, dropout on", "validation", f"best epoch, {epochs[best]}"]
            axes.legend(axes.lines, names, loc="best")


def gradient_norms(history_csv: str | Path, path: str | Path) -> None:
    """The gradient norm by epoch, of all parameters and of each weight, from ``history.csv``."""
    history, epochs, marker = _history(history_csv)
    prefix = "grad_norm."
    matrices = [c for c in map(str, history) if c.startswith(prefix) and "weight" in c]
    with picture(path) as figure:
        axes = figure.add_subplot()
        axes.plot(epochs, history["grad_norm"], color=BLACK, linewidth=4, marker=marker)
        for column, colour, style in zip(matrices, cycle(COLOURS), cycle(STYLES), strict=False):
            axes.plot(epochs, history[column], color=colour, linestyle=style, marker=marker)
        axes.set_yscale("log")
        axes.set(
            xlabel="epoch",
            ylabel="gradient norm, mean over batches",
            title="Gradient norm by epoch, before clipping",
        )
        _whole_numbers(axes)
        names = ["all parameters", *(column.removeprefix(prefix) for column in matrices)]
        axes.legend(axes.lines, names, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _history(history_csv: str | Path) -> tuple[pd.DataFrame, Any, str | None]:
    """The table, its epochs from 1 on, and the marker of a curve, which one point needs."""
    history = pd.read_csv(history_csv)
    return history, history["epoch"] + 1, "o" if len(history) == 1 else None


def confusion_matrix(matrix_csv: str | Path, path: str | Path) -> None:
    """The fraction of each true class predicted as each class, from ``confusion_matrix.csv``.

    Classes with most rows come first; of more than :data:`MOST_CLASSES` the last row and column are
    the others together. The columns are the classes of the rows in the same order: they are taken
    by position, since a class may have any name.
    """
    label, names, table = read_confusion(matrix_csv)
    named, counts = largest_classes(table, MOST_CLASSES)
    order, what = [_shown(names[place]) for place in named], "in % of each row"
    if rest := len(names) - len(named):
        order.append(f"the other {rest:,} classes")
        what += f": the {len(named)} largest of {len(names):,} classes, the others together"
    totals = counts.sum(axis=1)
    share = counts / np.maximum(totals, 1)[:, None]
    size = max(7.0, 0.62 * len(order) + 3)
    with picture(path, width=size + 1.5, height=size, texts=order) as figure:
        axes = figure.add_subplot()
        axes.grid(visible=False)
        image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
        axes.set_xticks(range(len(order)), order, rotation=60, ha="right")
        axes.set_yticks(
            range(len(order)), [f"{n} ({c})" for n, c in zip(order, totals, strict=True)]
        )
        least = max(0.005, np.sort(share, axis=None)[-MOST_NUMBERS:][0])
        for row, column in zip(*np.nonzero(share >= least), strict=True):
            value = share[row, column]
            axes.text(
                column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=11,
                color="black" if value > 0.5 else "white", in_layout=False,
            )  # fmt: skip
        axes.set(
            xlabel=f"predicted {label}",
            ylabel=f"true {label} (test rows)",
            title=f"Where the test names go, {what}",
        )
        share_of_row = PercentFormatter(xmax=1)
        figure.colorbar(image, ax=axes, label="share of the row", format=share_of_row, shrink=0.8)


def reliability(reliability_csv: str | Path, path: str | Path) -> None:
    """How often answers are right against how probable they are; one curve if nothing changed."""
    table = pd.read_csv(reliability_csv)
    before, after = (table[table["calibrated"] == which].iloc[:, 1:] for which in (0, 1))
    if np.array_equal(before, after):
        table = table[table["calibrated"] == 1]
    looks = {0: ("before calibration", ORANGE, "s", "--"), 1: ("as saved", BLUE, "o", "-")}
    with picture(path) as figure:
        axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        axes.plot([0, 1], [0, 1], color=BLACK, linewidth=1, linestyle=":", label="as it should be")
        for calibrated, rows in table.groupby("calibrated"):
            label, colour, marker, style = looks[int(str(calibrated))]
            axes.plot(rows["confidence"], rows["accuracy"], color=colour, marker=marker,
                      linestyle=style, label=label)  # fmt: skip
        middle, width = (rows["low"] + rows["high"]) / 2, rows["high"] - rows["low"]
        counts.bar(middle, rows["rows"], 0.9 * width, color=BLUE)
        axes.set(ylabel="share of right answers", xlim=(0, 1), ylim=(0, 1),
                 title="Are the probabilities right? Test names")  # fmt: skip
        counts.set(xlabel="probability of the answer", ylabel="names")
        axes.legend(loc="upper left")


def _shown(name: str) -> str:
    """A class's name as it is drawn: on one line, and not long."""
    text = "".join(letter if letter.isprintable() else " " for letter in name)
    text = text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"
    return text.replace("$", r"\$")  # Matplotlib takes text between two of them for mathematics


SCORE_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
}


def score_marks(
    groups: Mapping[str, Sequence[Mapping[str, Any]]], title: str, path: str | Path
) -> None:
    """Each score of each group of runs: one mark per run, and a line at the mean."""
    looks = [(BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (PURPLE, "D")]
    with picture(path) as figure:
        axes = figure.add_subplot()
        for group, (label, rows) in enumerate(groups.items()):
            colour, marker = looks[group % len(looks)]
            for place, score in enumerate(SCORE_NAMES):
                x = place + 0.24 * (group - (len(groups) - 1) / 2)
                values = [row[score] for row in rows]
                axes.plot(
                    [x] * len(values), values, marker, color=colour, alpha=0.5, markersize=10,
                    label=label if place == 0 else None,
                )  # fmt: skip
                axes.plot([x - 0.08, x + 0.08], [np.mean(values)] * 2, color=BLACK)
        axes.set_xticks(range(len(SCORE_NAMES)), list(SCORE_NAMES.values()))
        axes.set(
            xlim=(-0.5, len(SCORE_NAMES) - 0.5), ylim=(0, 1), ylabel="score on all test rows",
            title=f"{title}\n(a mark a seed; line: mean)",
        )  # fmt: skip
        axes.legend()


def gradient_flow(flow_csv: str | Path, path: str | Path, *, saved: bool = False) -> None:
    """The gradient that reaches each lag, with the bound, from ``gradient_flow.csv``.

    Beside it a heat map over epochs and lags; or, of a single epoch, the fraction of the gradient
    of ``W_hh`` that is each lag's. ``saved`` says that it is of a saved model, and of no epoch. Of
    several layers, the left picture compares them, and the right one shows the last layer.
    """
    flow = pd.read_csv(flow_csv)
    layers = list(dict.fromkeys(flow["layer"]))
    last = flow[flow["layer"] == layers[-1]]
    of_layer = "" if len(layers) == 1 else f", {layers[-1]}"
    several = flow["epoch"].nunique() > 1
    panels = (
        2 if several or last["weight_hh_fraction"].notna().any() else 1
    )  # attention has no W_hh
    with picture(path, width=15) as figure:
        left, *others = figure.subplots(1, panels, squeeze=False)[0]
        if len(layers) > 1:
            final = flow[flow["epoch"] == flow["epoch"].max()]
            _lines_by_lag(left, final, "layer", "hidden_grad_mean")
        else:
            _flow_by_lag(left, flow, saved)
        left.set_yscale("log", nonpositive="mask")
        left.set(xlabel="lag: steps back from the last character", ylabel="norm of dL/dh",
                 title="Gradient that reaches each step")  # fmt: skip
        _whole_numbers(left)
        left.legend()
        if several:
            _flow_heat_map(figure, others[0], last)
            others[0].set_title(f"The same over training{of_layer}")
        elif others:
            others[0].bar(last["lag"], last["weight_hh_fraction"], color=BLUE)
            others[0].set(xlabel="lag (steps back)", ylabel="norm of the lag's part, of their sum",
                          title=f"Shares of dL/dW_hh{of_layer}")  # fmt: skip
            _whole_numbers(others[0])


def _lines_by_lag(
    axes: Axes, rows: pd.DataFrame, by: str, value: str, marker: str | None = None
) -> None:
    """A line over the lags for each value of the column ``by``."""
    groups = rows.groupby(by, sort=False)
    for (name, group), colour, style in zip(groups, cycle(COLOURS), cycle(STYLES), strict=False):
        axes.plot(group["lag"], group[value], color=colour, linestyle=style, marker=marker,
                  label=name)  # fmt: skip


def _flow_by_lag(axes: Axes, flow: pd.DataFrame, saved: bool) -> None:
    """The first and the last epoch of a single layer, the last with quartiles and bound."""
    epochs = sorted({int(flow["epoch"].min()), int(flow["epoch"].max())})
    for epoch, colour, style in zip(epochs, (SKY, BLUE), ("--", "-"), strict=False):
        rows, when = flow[flow["epoch"] == epoch], "" if saved else f", epoch {epoch + 1}"
        axes.plot(rows["lag"], rows["hidden_grad_mean"], color=colour, linestyle=style,
                  label=f"mean{when}")  # fmt: skip
    low, high = rows["hidden_grad_q25"], rows["hidden_grad_q75"]
    axes.fill_between(rows["lag"], low, high, color=BLUE, alpha=0.2, label="quartiles")
    if rows["bound"].notna().any():
        axes.plot(rows["lag"], rows["bound"], color=VERMILION, linestyle=":",
                  label=f"chain-rule bound{when}")  # fmt: skip


def flow_by_part(parts_csv: str | Path, path: str | Path) -> None:
    """Output and gradient of each gate, or attention and gradient of each head, by lag.

    From ``flow_by_part_model.csv``; of several layers, the last.
    """
    parts = pd.read_csv(parts_csv)
    layer = parts["layer"].iloc[-1]
    rows = parts[parts["layer"] == layer]
    if "activation" in rows:
        shown = {
            "activation": ("mean output", "Gates and candidate"),
            "delta_norm": ("mean norm of dL/da", "The gradient that reaches it"),
        }
    else:
        shown = {
            "attention": ("attention of the last character", "Where each head looks"),
            "head_grad": ("mean norm of dL/do", "The gradient that reaches it"),
        }
    with picture(path, width=15) as figure:
        for place, (column, (label, title)) in enumerate(shown.items(), start=1):
            axes = figure.add_subplot(1, 2, place)
            _lines_by_lag(axes, rows, "part", column, marker="o")
            axes.set(xlabel="lag: steps back from the last character", ylabel=label,
                     title=f"{title}, {layer}")  # fmt: skip
            _whole_numbers(axes)
        if (rows[column] > 0).any():
            axes.set_yscale("log", nonpositive="mask")
        axes.legend()


def _flow_heat_map(figure: Figure, axes: Axes, flow: pd.DataFrame) -> None:
    grid = flow.pivot_table(index="lag", columns="epoch", values="hidden_grad_mean")
    logs = np.log10(grid.to_numpy(), where=grid.to_numpy() > 0, out=np.full(grid.shape, np.nan))
    axes.grid(visible=False)
    image = axes.imshow(logs, origin="lower", aspect="auto", cmap="cividis", interpolation="none",
                        extent=(0.5, grid.shape[1] + 0.5, -0.5, grid.shape[0] - 0.5))  # fmt: skip
    axes.set(xlabel="epoch", ylabel="lag (steps back)")
    _whole_numbers(axes)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(image, ax=axes, label="norm of dL/dh, power of ten")


def draw_run(save_dir: Path) -> list[Path]:
    """Draw every picture of a training run from its CSV files; returns the paths."""
    drawn = []
    for draw, table in (
        (learning_curves, "history.csv"), (gradient_norms, "history.csv"),
        (confusion_matrix, "confusion_matrix.csv"), (reliability, "reliability.csv"),
        (gradient_flow, "gradient_flow.csv"),
    ):  # fmt: skip
        if len(pd.read_csv(save_dir / table, nrows=1)):  # one is empty where nothing was recorded
            drawn.append(save_dir / f"{draw.__name__}.png")
            draw(save_dir / table, drawn[-1])
    return [path for path in drawn if path.exists()]


def _whole_numbers(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
