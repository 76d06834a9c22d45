"""Pictures, redrawn from the CSV files of a run; no model is needed.

Colours are Okabe and Ito's, which stay apart for colour-blind readers; sizes are those of a slide.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from npnlp.files import write_atomic

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000",
)  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)
STYLES: Any = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
STYLE: Any = {
    "font.size": 14,
    "axes.titlesize": 16,
    "axes.labelsize": 15,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "lines.linewidth": 2.5,
    "legend.frameon": False,
    "savefig.dpi": 120,
}


@contextmanager
def picture(path: str | Path, width: float = 12, height: float = 6.75) -> Iterator[Figure]:
    """A figure in the project's style, saved to ``path`` at the end."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # A label in a script that the font lacks is drawn as boxes; the CSV beside it has the text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        # No date and no version in the file: the same data gives the same bytes.
        content = io.BytesIO()
        figure.savefig(content, metadata={"Software": None})
        write_atomic(path, content.getvalue())


def learning_curves(history_csv: str | Path, path: str | Path) -> None:
    """Loss and accuracy by epoch, with the best epoch marked, from ``history.csv``."""
    history = pd.read_csv(history_csv)
    epochs = history["epoch"] + 1
    best = int(history["val_loss"].argmin())
    with picture(path) as figure:
        for place, (quantity, label) in enumerate(
            [("loss", "cross-entropy loss (nats)"), ("accuracy", "accuracy")]
        ):
            axes = figure.add_subplot(1, 2, place + 1)
            marker = "o" if len(history) == 1 else None
            train, val = history[f"train_{quantity}"], history[f"val_{quantity}"]
            axes.plot(epochs, train, color=BLUE, marker=marker)
            axes.plot(epochs, val, color=ORANGE, linestyle="--", marker=marker)
            axes.axvline(epochs[best], color=BLACK, linewidth=1, linestyle=":")
            axes.set(xlabel="epoch", ylabel=label, title=quantity.capitalize())
            _whole_numbers(axes)
            _legend(axes, ["train, dropout on", "validation", f"best epoch, {epochs[best]}"])


def gradient_norms(history_csv: str | Path, path: str | Path) -> None:
    """The norm of the gradient by epoch, in all and of each weight matrix, from ``history.csv``."""
    history = pd.read_csv(history_csv)
    epochs = history["epoch"] + 1
    marker = "o" if len(history) == 1 else None
    prefix = "grad_norm."
    matrices = [c for c in map(str, history) if c.startswith(prefix) and "weight" in c]
    with picture(path) as figure:
        axes = figure.add_subplot()
        axes.plot(epochs, history["grad_norm"], color=BLACK, linewidth=4, marker=marker)
        for place, column in enumerate(matrices):
            axes.plot(epochs, history[column], color=COLOURS[place % len(COLOURS)],
                      linestyle=STYLES[place % len(STYLES)], marker=marker)  # fmt: skip
        axes.set_yscale("log")
        axes.set(
            xlabel="epoch",
            ylabel="gradient norm, mean over batches",
            title="Gradient norm by epoch, before clipping",
        )
        _whole_numbers(axes)
        names = ["all parameters", *(column.removeprefix(prefix) for column in matrices)]
        axes.legend(axes.lines, names, loc="center left", bbox_to_anchor=(1.0, 0.5))


def confusion_matrix(matrix_csv: str | Path, path: str | Path) -> None:
    """The share of each true class that is predicted as each class, from ``confusion_matrix.csv``.

    Classes with the most rows come first. Columns are those of the rows, in the same order: the
    table is read by position, since a class may have any name.
    """
    table = pd.read_csv(matrix_csv, header=None, dtype=str, keep_default_na=False).to_numpy()
    unsorted = table[1:, 1:].astype(np.int64)
    ranks = np.argsort(-unsorted.sum(axis=1), kind="stable")
    counts = unsorted[ranks][:, ranks]
    # Matplotlib reads what stands between dollar signs as mathematics.
    order = [name.replace("$", r"\$") for name in table[1:, 0][ranks]]
    totals = counts.sum(axis=1)
    share = counts / np.maximum(totals, 1)[:, None]
    size = max(7.0, 0.62 * len(order) + 3)
    with picture(path, width=size + 1.5, height=size) as figure:
        axes = figure.add_subplot()
        axes.grid(visible=False)
        image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
        axes.set_xticks(range(len(order)), order, rotation=60, ha="right")
        axes.set_yticks(
            range(len(order)), [f"{n} ({c})" for n, c in zip(order, totals, strict=True)]
        )
        for row, column in zip(*np.nonzero(share >= 0.005), strict=True):
            value = share[row, column]
            axes.text(
                column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=11,
                color="black" if value > 0.5 else "white",
            )  # fmt: skip
        axes.set(
            xlabel="predicted nationality",
            ylabel="true nationality (test rows)",
            title="Where the test names go, in % of each row",
        )
        share_of_row = PercentFormatter(xmax=1)
        figure.colorbar(image, ax=axes, label="share of the row", format=share_of_row, shrink=0.8)


SCORE_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
}


def score_marks(
    groups: Mapping[str, Sequence[Mapping[str, Any]]], title: str, path: str | Path
) -> None:
    """Each score of each group of runs: a mark a run, a line at the mean."""
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


def gradient_flow(flow_csv: str | Path, path: str | Path) -> None:
    """The gradient that reaches each lag, with the bound, from ``gradient_flow.csv``.

    Beside it, its whole history as a heat map, or where only one epoch was recorded, each lag's
    share of the gradient of ``W_hh``. Of several layers, the first picture compares them, and the
    second shows the last one.
    """
    flow = pd.read_csv(flow_csv)
    layers = list(dict.fromkeys(flow["layer"]))
    last = flow[flow["layer"] == layers[-1]]
    of = "" if len(layers) == 1 else f", {layers[-1]}"
    shares = last["weight_hh_share"].notna().any()  # attention has no W_hh
    panels = 2 if shares or flow["epoch"].nunique() > 1 else 1
    with picture(path, width=15) as figure:
        left, *others = figure.subplots(1, panels, squeeze=False)[0]
        if len(layers) > 1:
            _flow_by_layer(left, flow, layers)
        else:
            _flow_by_lag(left, flow)
        left.set_yscale("log", nonpositive="mask")
        left.set(xlabel="lag: steps back from the last character", ylabel="norm of dL/dh",
                 title="Gradient that reaches each step")  # fmt: skip
        _whole_numbers(left)
        left.legend()
        if flow["epoch"].nunique() > 1:
            _flow_heat_map(figure, others[0], last)
            others[0].set_title(f"The same over training{of}")
        elif others:
            others[0].bar(last["lag"], last["weight_hh_share"], color=BLUE)
            others[0].set(xlabel="lag (steps back)", ylabel="norm of the lag's share of dL/dW_hh",
                          title=f"Shares of dL/dW_hh{of}")  # fmt: skip
            _whole_numbers(others[0])


def _flow_by_layer(axes: Axes, flow: pd.DataFrame, layers: list[str]) -> None:
    rows = flow[flow["epoch"] == flow["epoch"].max()]
    for layer, colour, style in zip(layers, cycle(COLOURS), cycle(STYLES), strict=False):
        of_layer = rows[rows["layer"] == layer]
        axes.plot(of_layer["lag"], of_layer["hidden_grad_mean"], color=colour, linestyle=style,
                  label=layer)  # fmt: skip


def _flow_by_lag(axes: Axes, flow: pd.DataFrame) -> None:
    epochs = sorted({int(flow["epoch"].min()), int(flow["epoch"].max())})
    for epoch, colour, style in zip(epochs, (SKY, BLUE), ("--", "-"), strict=False):
        rows = flow[flow["epoch"] == epoch]
        named = f"epoch {epoch + 1}"
        axes.plot(rows["lag"], rows["hidden_grad_mean"], color=colour, linestyle=style,
                  label=f"mean, {named}")  # fmt: skip
        if epoch == epochs[-1]:
            low, high = rows["hidden_grad_q25"], rows["hidden_grad_q75"]
            axes.fill_between(rows["lag"], low, high, color=BLUE, alpha=0.2, label="quartiles")
            if rows["bound"].notna().any():
                axes.plot(rows["lag"], rows["bound"], color=VERMILION, linestyle=":",
                          label=f"chain-rule bound, {named}")  # fmt: skip


def flow_by_part(parts_csv: str | Path, path: str | Path) -> None:
    """What each gate does at each lag, and what gradient it gets; or each attention head.

    From ``flow_by_part_model.csv``; of several layers, the last.
    """
    parts = pd.read_csv(parts_csv)
    layer = parts["layer"].iloc[-1]
    rows = parts[parts["layer"] == layer]
    gates = "activation" in rows
    columns = {
        "activation" if gates else "attention": (
            "mean output" if gates else "attention of the last character",
            "Gates and candidate" if gates else "Where each head looks",
        ),
        "delta_norm" if gates else "head_grad": (
            "mean norm of dL/da" if gates else "mean norm of dL/do",
            "The gradient that reaches it",
        ),
    }
    with picture(path, width=15) as figure:
        for axes, (column, (label, title)) in zip(
            figure.subplots(1, 2), columns.items(), strict=True
        ):
            for part, colour, style in zip(
                dict.fromkeys(rows["part"]), cycle(COLOURS), cycle(STYLES), strict=False
            ):
                of_part = rows[rows["part"] == part]
                axes.plot(of_part["lag"], of_part[column], color=colour, linestyle=style,
                          marker="o", label=part)  # fmt: skip
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
    """Every picture of a training run, from its CSV files; their paths."""
    history = save_dir / "history.csv"
    drawn = [save_dir / f"{name}.png" for name in
             ("learning_curves", "gradient_norms", "confusion_matrix")]  # fmt: skip
    learning_curves(history, drawn[0])
    gradient_norms(history, drawn[1])
    confusion_matrix(save_dir / "confusion_matrix.csv", drawn[2])
    flow = save_dir / "gradient_flow.csv"
    if len(pd.read_csv(flow)):  # nothing is in it where the flow was not recorded
        drawn.append(save_dir / "gradient_flow.png")
        gradient_flow(flow, drawn[-1])
    return drawn


def _whole_numbers(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _legend(axes: Axes, names: list[str]) -> None:
    axes.legend(axes.lines, names, loc="best")
