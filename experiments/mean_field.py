"""The factor by which a gradient shrinks a step: what mean-field theory predicts, and what happens.

Untrained cells of several sizes, from random, orthogonal and identity weights, on random inputs;
and the surname model on the names of test, before training and after it. Beside both stand the norm
of the product of Jacobians, which no direction can exceed, and the bound of the chain rule.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from npnlp.classifier.building import make_criterion
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.drawing import Axes, Figure
from npnlp.files import write_csv
from npnlp.lab.slopes import SCALES, SHOWN, on_names, on_random, starts_of
from npnlp.lab.vanishing import trainer_at
from npnlp.plots import BLACK, BLUE, GREEN, ORANGE, picture
from npnlp.text import SurnameDataset
from npnlp.training.config import TrainingConfig

SEEDS, EPOCHS = 3, 30
SIZES: tuple[int, ...] = (16, 32, 64, 128, 256)
#: Letters over which the factors of names are taken.
LETTERS = 6
#: The size that is drawn.
DRAWN = 128
LINES = {
    "from_activations": ("theory, new weights in each step", ORANGE, "--"),
    "shared_weights": ("theory, the weights shared by all steps", BLUE, "-"),
    "product_norm": ("norm of the product of Jacobians", GREEN, "-."),
}
Table = pd.DataFrame


def random_sequences(sizes: tuple[int, ...], seeds: int, first: int) -> list[dict[str, Any]]:
    """A row for each cell, size and start."""
    cases = [(cell, hidden, *row) for cell in SHOWN for hidden in sizes for row in starts_of(cell)]
    rows = []
    for cell, hidden, name, scale, start in tqdm(cases, unit="case", disable=None):
        found = on_random(start, hidden, seeds, first)
        rows.append({"cell": cell, "hidden_size": hidden, "start": name, "scale": scale, **found})
    return rows


def names(dataset: SurnameDataset, config: TrainingConfig) -> list[dict[str, Any]]:
    """A row for each cell, before and after training."""
    rows, test = [], dataset.arrays("test")
    for cell, start in tqdm(SHOWN.items(), unit="run", disable=None):
        trainer = trainer_at(dataset, start, config)
        criterion = make_criterion(trainer.model)
        for when in ("at first", "trained"):
            if when == "trained":
                while not trainer.finished:
                    trainer.run_epoch()
                trainer.finish()
            found = on_names(trainer.model, test, criterion, LETTERS)
            rows.append({"cell": cell, "when": when, "letters": LETTERS, **found})
    return rows


def draw_cell(axes: Axes, rows: Table, cell: str) -> None:
    """Measured as points, predicted as lines, over the scale of random weights."""
    for column, (label, colour, style) in LINES.items():
        axes.plot(rows["scale"], rows[column], color=colour, linestyle=style, label=label)
    axes.plot(rows["scale"], rows["measured"], "o", color=BLACK, markersize=9, label="measured")
    axes.axhline(1, color=BLACK, linewidth=1)
    axes.set(title=cell, yscale="log")
    ticks = [0.25, 0.5, 1, 2]
    axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)


def draw(figure: Figure, table: Table, size: int) -> None:
    """A panel a cell."""
    grid = figure.subplots(2, 2, sharex=True, sharey=True)
    rows = table[(table["hidden_size"] == size) & (table["start"] == "default")]
    for axes, (cell, of_cell) in zip(grid.reshape(-1), rows.groupby("cell", sort=False),
                                     strict=True):  # fmt: skip
        draw_cell(axes, of_cell, str(cell))
    for axes in grid[:, 0]:
        axes.set_ylabel("factor per step")
    for axes in grid[-1]:
        axes.set_xlabel("random W_hh, times")
        axes.set_xticks(SCALES)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, title_fontsize=18,
                  title=f"What is left of a gradient after a step, {size} units")  # fmt: skip


def main() -> int:
    """Measure, write, draw and print."""
    parser = script_parser(__doc__, "out/mean_field")
    add_table(parser)
    parser.add_argument("--num-epochs", type=int, default=EPOCHS, help="of the surname model")
    options = parser.parse_args()
    sizes, seeds, epochs = SIZES, SEEDS, options.num_epochs
    if options.quick:
        sizes, seeds, epochs = (8,), 1, 1
    config = TrainingConfig(num_epochs=epochs, seed=options.seed)
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "mean_field.csv", random_sequences(sizes, seeds, options.seed))
    write_csv(out / "mean_field_names.csv", names(dataset, config))
    table = pd.read_csv(out / "mean_field.csv")
    with picture(out / "mean_field.png", width=13, height=9) as figure:
        draw(figure, table, DRAWN if DRAWN in sizes else sizes[0])
    tanh = table[(table["cell"] == "Elman, tanh") & (table["start"] == "default")
                 & (table["hidden_size"] >= DRAWN) & (table["scale"] <= 1.5)]  # fmt: skip
    if len(tanh):
        error = (tanh["from_inputs"] / tanh["measured"] - 1).abs().max()
        print(f"tanh, {DRAWN} units or more, scales up to 1.5: predicted from weights and inputs "
              f"to {error:.1%} of what was measured")  # fmt: skip
    print(f"wrote {out / 'mean_field.csv'}, {out / 'mean_field_names.csv'} and "
          f"{out / 'mean_field.png'}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(guarded("mean_field.py", main))
