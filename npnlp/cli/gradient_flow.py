"""``npnlp gradient-flow``: how much gradient reaches each step of a trained model."""

from __future__ import annotations

import argparse

import numpy as np

from npnlp.classifier.building import make_criterion
from npnlp.classifier.flow import flow_and_parts, flow_layers, flow_rows, fraction_of, write_flow
from npnlp.cli.measured import ALL, RULE, add_split_by, measured
from npnlp.cli.options import (
    add_backend,
    add_save_dir,
    add_surname_csv,
    saved_classifier,
)
from npnlp.cli.pictures import add_pictures, output_of
from npnlp.cli.script import loaded_plots
from npnlp.errors import InputError
from npnlp.files import write_csv
from npnlp.gradients.flow import COLUMNS, GradientFlow
from npnlp.text import SPLITS, own_table_path

HELP = "show how much gradient reaches each step"
DESCRIPTION = (
    "Backpropagate the loss of a saved model over a split of a table, and show by lag (steps back "
    "from the last character) how much gradient arrives, where the gradient of W_hh comes from, "
    "the norm of the product of Jacobians and the bound of the chain rule. Writes "
    "gradient_flow_model.csv and, by gate or by attention head, flow_by_part_model.csv, each with "
    "a picture, into the folder of the run; training wrote gradient_flow.csv as it went along. "
    f"{RULE}"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_save_dir(parser)
    add_surname_csv(parser)
    add_split_by(parser)
    parser.add_argument(
        "--split",
        choices=SPLITS,
        help="which rows (default: test, or all of a table that is not divided)",
    )
    add_pictures(parser)
    add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    output = output_of(options, options.save_dir)
    classifier = saved_classifier(options)
    source = options.surname_csv or own_table_path()
    dataset, splits, said = measured(classifier, options)
    name = options.split or (ALL if ALL in splits else "test")
    if name not in splits:
        raise InputError(
            f"{source}: {said}; leave out --split, or say how to divide it with --split-by"
        )
    split = dataset.arrays(splits[name])
    if not len(split):
        raise InputError(f"{source}: column split: no rows with {name!r}; choose another")
    model = classifier.model
    layers = flow_layers(model)
    flows, rows = flow_and_parts(model, split, make_criterion(model))
    print(f"{len(split):,} {name} rows; {said}")
    for name, flow in flows.items():
        _print_table(name, flow)
    path = options.save_dir / "gradient_flow_model.csv"
    write_flow(path, flow_rows(flows, layers, epoch=0), layers)
    parts = options.save_dir / "flow_by_part_model.csv"
    write_csv(parts, rows)
    print(f"wrote {path} and {parts}")
    if options.pictures and (plots := loaded_plots("npnlp gradient-flow")):
        drawn = [output.path(at.stem) for at in (path, parts)]
        plots.gradient_flow(path, drawn[0], saved=True, language=output.language)
        plots.flow_by_part(parts, drawn[1], language=output.language)
        print("\n".join(f"wrote {at}" for at in drawn if at.exists()))
    return 0


def _print_table(name: str, flow: GradientFlow) -> None:
    table = flow.table()
    if np.isfinite(flow.sigma_max):
        print(f"{name}: the largest singular value of W_hh is {flow.sigma_max:.3f}, its spectral "
              f"radius {flow.spectral_radius:.3f}")  # fmt: skip
    else:
        print(f"{name}: attention, which has no W_hh")
    print(f"{'lag':>4}{'|dL/dh| mean':>14}{'quartiles':>32}{'share of dW_hh':>16}"
          f"{'mean phi':>10}{'product':>10}{'bound':>10}")  # fmt: skip
    total = float(table[:, COLUMNS.index("weight_hh_share")].sum())
    for lag, mean, q25, q50, q75, norm, slope, _, _, bound, product, _, _ in table:
        print(f"{lag:>4.0f}{mean:>14.2e}{q25:>12.1e}{q50:>10.1e}{q75:>10.1e}"
              f"{fraction_of(norm, total):>16.2e}{slope:>10.3f}{product:>10.1e}"
              f"{bound:>10.1e}")  # fmt: skip
