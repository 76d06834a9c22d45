"""Where gradients vanish or explode, and which factor of the chain rule it is.

Long random sequences without training, and the surname model before and after it: the gradient by
lag beside its bound, over the epochs, with both factors of the Jacobian apart, and clipped. A
sentence under each picture says what it shows, from the numbers in the CSV that it is drawn from.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from npnlp.backend import Random
from npnlp.classifier.flow import write_flow
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.drawing import Axes, Figure, MaxNLocator
from npnlp.files import write_csv, write_json, write_table
from npnlp.gradients.flow import COLUMNS
from npnlp.lab import findings
from npnlp.lab.starts import (
    STARTS,
    factor_rows,
    flow_on_random,
    jacobians_on_random,
    layer_at,
    singular_value_rows,
)
from npnlp.lab.vanishing import before_and_after, clipping_run
from npnlp.plots import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, picture
from npnlp.text import SurnameDataset
from npnlp.training.config import TrainingConfig

DEFAULT, EXPLODING = "default, tanh", "exploding, ReLU"
#: Starts on long random sequences, and of the surname model: what explodes is shown with clipping.
LONG = [name for name in STARTS if name != DEFAULT]
TRAINED = [name for name in STARTS if name != EXPLODING]
LOOKS = [
    (BLUE, "-"), (GREEN, "--"), (VERMILION, "-."), (BLACK, ":"), (ORANGE, (0, (5, 1))),
    (PURPLE, (0, (3, 1, 1, 1))),
]  # fmt: skip
LAG = "lag (steps back)"
#: What the panels of long sequences show; a line may leave them, and a text says where it ends.
RANGE = (1e-20, 1e10)
MAX_NORM = 1.0
#: Singular values this much below the largest are rounding errors.
ROUNDING = 1e-15
LENGTH, EPOCHS, STEPS = 100, 30, 60
#: Beyond this the exploding start leaves the numbers that there are.
LONGEST = 1000
#: The longest sequences of the exploding start; its gradient grows by a quarter each step.
CLIPPED = 30
Table = pd.DataFrame


def random_sequences(out: Path, length: int, seed: int) -> None:
    """Untrained layers on long sequences: flow, factors and products of Jacobians, a CSV each."""
    flows, factors, products = [], [], []
    for name in LONG:
        layer = layer_at(STARTS[name], Random(seed, "layer"))
        table = flow_on_random(layer, length, 32, Random(seed, "sequences")).table()
        flows += [[name, int(row[0]), *row[1:]] for row in table.tolist()]
        seen = jacobians_on_random(layer, length, Random(seed, "sequence"))
        factors += [[name, *row] for row in factor_rows(seen)]
        products += [{"start": name, **row} for row in singular_value_rows(seen)]
    write_table(out / "vanishing_starts.csv", ["start", *COLUMNS], flows)
    write_table(out / "vanishing_factors.csv", ["start", "factor", "place", "value"], factors)
    write_csv(out / "vanishing_jacobians.csv", products)


def surnames(out: Path, dataset: SurnameDataset, config: TrainingConfig) -> None:
    """The surname model before and after training from each start."""
    rows, scores = [], []
    for name in tqdm(TRAINED, unit="run", disable=None):
        before, after, accuracy, trainer = before_and_after(dataset, STARTS[name], config)
        for when, flow in (("at first", before), ("trained", after)):
            rows += [[name, when, int(row[0]), *row[1:]] for row in flow.table().tolist()]
        scores.append({
            "start": name, "epochs": len(trainer.progress.history), "test_accuracy": accuracy,
            "sigma_max": before.sigma_max, "sigma_max_trained": after.sigma_max,
        })  # fmt: skip
        if name == DEFAULT:
            write_flow(out / "vanishing_epochs.csv", trainer.flow, trainer.flow_layers)
    write_table(out / "vanishing_surnames.csv", ["start", "when", *COLUMNS], rows)
    write_csv(out / "vanishing_scores.csv", scores)


def clipping(out: Path, length: int, steps: int, seed: int) -> None:
    """Some steps of training from the exploding start, with and without clipping."""
    rows = []
    with np.errstate(all="ignore"):
        for max_norm in (MAX_NORM, None):
            found = clipping_run(STARTS[EXPLODING], length, steps, max_norm, Random(seed, "clip"))
            rows += [{"clipping": "off" if max_norm is None else "on", **row} for row in found]
    write_csv(out / "vanishing_clipping.csv", rows)


def legend_above(figure: Figure, axes: Axes, title: str, columns: int) -> None:
    """The title of the whole picture, and the legend of all panels below it."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, title=title,
                  title_fontsize=18)  # fmt: skip


def panels(figure: Figure, names: list[str], y: str, title: str) -> Iterator[tuple[str, Axes]]:
    """A panel a name, two rows of three with the same axes; a legend for all of them."""
    grid = figure.subplots(2, 3, sharex=True, sharey=True)
    for axes, name in zip(grid.reshape(-1), names, strict=True):
        axes.set(title=name, yscale="log")
        yield name, axes
    for axes in grid[:, 0]:
        axes.set_ylabel(y)
    for axes in grid[-1]:
        axes.set_xlabel(LAG)
    legend_above(figure, grid[0, 0], title, 4)


def draw_bound(axes: Axes, rows: Table, what: str, norm: float) -> None:
    """The bound over what it bounds, and in the title where both end, if outside the panel."""
    axes.plot(rows["lag"], rows["bound"], ":", color=VERMILION, linewidth=3.5,
              label="bound of the chain rule")  # fmt: skip
    axes.set_ylim(RANGE)
    axes.set_title(f"{axes.get_title()}\n", fontsize=16)
    axes.text(0.5, 1.03, f"at the end: {what} {norm:.0e}, bound {rows['bound'].iloc[-1]:.0e}",
              fontsize=14, ha="center", transform=axes.transAxes)  # fmt: skip


def draw_starts(figure: Figure, table: Table) -> None:
    """The gradient by lag on random sequences, a panel a start."""
    title = "What is left of the gradient: untrained, on long random sequences"
    for name, axes in panels(figure, LONG, "norm of dL/dh, 1 at lag 0", title):
        rows = table[table["start"] == name]
        mean = rows["hidden_grad_mean"]
        axes.plot(rows["lag"], mean, color=BLUE, label="norm, mean of the sequences")
        draw_bound(axes, rows, "norm", mean.iloc[-1])


def draw_jacobians(figure: Figure, table: Table) -> None:
    """Singular values of the product of Jacobians along one sequence, a panel a start."""
    title = "Singular values of dh_T/dh_k along one random sequence (drawn where above rounding)"
    looks = {"largest": (BLUE, "-"), "median": (GREEN, "--"), "smallest": (PURPLE, "-.")}
    for name, axes in panels(figure, LONG, "singular value", title):
        rows = table[table["start"] == name]
        for column, (colour, style) in looks.items():
            sound = rows[column].where(rows[column] > ROUNDING * rows["largest"])
            axes.plot(rows["lag"], sound, color=colour, linestyle=style, label=column)
        draw_bound(axes, rows, "largest", rows["largest"].iloc[-1])


def draw_factors(figure: Figure, table: Table) -> None:
    """Slopes by lag, and singular values of W_hh by rank."""
    grid = figure.subplots(1, 3)
    kinds = {"mean phi'": LAG, "max phi'": LAG, "singular value of W_hh": "rank"}
    for axes, (kind, x) in zip(grid, kinds.items(), strict=True):
        for name, (colour, style) in zip(LONG, LOOKS, strict=True):
            rows = table[(table["factor"] == kind) & (table["start"] == name)]
            axes.plot(rows["place"], rows["value"], color=colour, linestyle=style, label=name)
        axes.set(title=f"{kind} of the 64 units" if x == LAG else kind, xlabel=x, ylabel=kind)
        if x == LAG:
            axes.set_ylim(0, 1.05)
    legend_above(figure, grid[0], "The two factors of the Jacobian apart", 3)


def draw_surnames(figure: Figure, table: Table) -> None:
    """The gradient by lag on the test names, before and after training, a panel a start."""
    title = "The surname model on all test names, at first and trained"
    looks = {"at first": (SKY, ORANGE, "--"), "trained": (BLUE, VERMILION, "-")}
    for name, axes in panels(figure, TRAINED, "norm of dL/dh, mean", title):
        for when, (colour, colour_of_bound, style) in looks.items():
            rows = table[(table["start"] == name) & (table["when"] == when)]
            axes.plot(rows["lag"], rows["hidden_grad_mean"], color=colour, linestyle=style,
                      label=f"norm, {when}")  # fmt: skip
            axes.plot(rows["lag"], rows["bound"], ":", color=colour_of_bound, linewidth=3.5,
                      label=f"bound, {when}")  # fmt: skip


def draw_epochs(figure: Figure, table: Table) -> None:
    """Heat maps over epoch and lag: what reaches a step, and its share of dL/dW_hh."""
    figure.suptitle(f"Over training, start: {DEFAULT} (one batch an epoch; white: no such step)")
    kinds = {
        "hidden_grad_mean": ("What reaches the step", "norm of dL/dh, mean"),
        "weight_hh_share": ("Its share of dL/dW_hh", "norm of the share"),
    }
    for axes, column in zip(figure.subplots(1, 2), kinds, strict=True):
        title, label = kinds[column]
        grid = table.pivot_table(index="lag", columns="epoch", values=column)
        image = axes.imshow(
            np.log10(grid.where(grid > 0)), origin="lower", aspect="auto", cmap="cividis",
            interpolation="none",
            extent=(0.5, grid.shape[1] + 0.5, -0.5, grid.index.max() + 0.5),
        )  # fmt: skip
        axes.grid(visible=False)
        axes.set(xlabel="epoch", ylabel=LAG, title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        figure.colorbar(image, ax=axes, label=f"{label}, power of ten")


def draw_clipping(figure: Figure, table: Table) -> None:
    """Norms before and after clipping, and the loss, by step of training."""
    figure.suptitle(f"Clipping to {MAX_NORM:g}, start: {EXPLODING}")
    on, off = (table[table["clipping"] == kind] for kind in ("on", "off"))
    left, right = figure.subplots(1, 2)
    left.plot(on["step"], on["norm"], color=VERMILION, label="before clipping")
    left.plot(on["step"], on["norm_clipped"], "--", color=BLUE, label="after clipping")
    right.plot(on["step"], on["loss"], color=BLUE, label="with clipping")
    for axes, column in ((left, "norm"), (right, "loss")):
        axes.plot(off["step"], off[column], "x:", color=BLACK, markersize=12, markeredgewidth=3,
                  label="without clipping, as\nlong as it is finite")  # fmt: skip
        axes.set(xlabel="step of training", yscale="log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    left.set(title="Norm of the whole gradient", ylabel="norm of the gradient")
    right.set(title="Loss", ylabel="mean squared error")


#: Each picture is drawn from the CSV of its name.
PICTURES: dict[str, tuple[Callable[[Figure, Table], None], Callable[[Table], str]]] = {
    "vanishing_starts": (draw_starts, findings.starts),
    "vanishing_jacobians": (draw_jacobians, findings.jacobians),
    "vanishing_factors": (draw_factors, findings.factors),
    "vanishing_surnames": (draw_surnames, findings.surnames),
    "vanishing_epochs": (draw_epochs, findings.epochs),
    "vanishing_clipping": (draw_clipping, findings.clipping),
}


def draw(out: Path) -> dict[str, str]:
    """Every picture with its sentence under it; the sentences."""
    sentences = {}
    for name, (drawn, say) in PICTURES.items():
        table = pd.read_csv(out / f"{name}.csv")
        sentences[name] = say(table)
        with picture(out / f"{name}.png", width=14, height=8.5) as figure:
            drawn(figure, table)
            words = (
                sentences[name].replace(", tanh", ",\u00a0tanh").replace(", ReLU", ",\u00a0ReLU")
            )
            figure.supxlabel(textwrap.fill(words, 115), fontsize=14)
    return sentences


def main() -> int:
    """Measure, write, draw and print."""
    parser = script_parser(__doc__, "out/vanishing_gradients")
    add_table(parser)
    parser.add_argument("--length", type=int, default=LENGTH, help="steps of the long sequences")
    parser.add_argument("--num-epochs", type=int, default=EPOCHS, help="of the surname model")
    options = parser.parse_args()
    if not 2 <= options.length <= LONGEST:
        parser.error(f"--length is {options.length}; give 2 to {LONGEST}")
    length, epochs, steps = options.length, options.num_epochs, STEPS
    if options.quick:
        length, epochs, steps = min(length, 20), 2, 5
    config = TrainingConfig(num_epochs=epochs, seed=options.seed)
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    options.out.mkdir(parents=True, exist_ok=True)
    with np.errstate(over="ignore"):  # a bound may be infinite
        random_sequences(options.out, length, options.seed)
    clipping(options.out, min(length, CLIPPED), steps, options.seed)
    surnames(options.out, dataset, config)
    sentences = draw(options.out)
    write_json(options.out / "sentences.json", sentences)
    for name, sentence in sentences.items():
        print(f"{name}.png: {sentence}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded("vanishing_gradients.py", main))
