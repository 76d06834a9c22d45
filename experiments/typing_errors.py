"""What typing errors in training bring and cost: names as they are, and with an error.

Each seed trains with every fraction of names that have a typing error in an epoch
(``npnlp train --typing-errors P``). Measured are names as they are, names with one letter replaced
by another, and names with an error of any kind, drawn by the seed. The fraction is chosen on val,
by the mean of the accuracy on names as they are and on names with an error of any kind; test is
read for that fraction, and for none.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from npnlp.backend import get_backend
from npnlp.classifier.building import model_settings
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.files import write_csv
from npnlp.runs.run import Run
from npnlp.runs.seeds import Shown
from npnlp.runs.side_by_side import Place, calls_of
from npnlp.text import SurnameDataset
from npnlp.training.config import TrainingConfig
from npnlp.training.recipes import RECIPES

LETTERS = "abcdefghijklmnopqrstuvwxyz"
FRACTIONS = (0.0, 0.1, 0.3)
Draw = np.random.Generator


def one_letter_wrong(name: str, draw: Draw) -> str:
    """Any letter replaced by another of the same case."""
    place = int(draw.integers(len(name)))
    letter = str(draw.choice([c for c in LETTERS if c != name[place].lower()]))
    letter = letter.upper() if name[place].isupper() else letter
    return f"{name[:place]}{letter}{name[place + 1 :]}"


def any_error(name: str, draw: Draw) -> str:
    """A letter wrong, left out or inserted, or two neighbours swapped."""
    kind, place = int(draw.integers(4)), int(draw.integers(len(name)))
    if kind == 1 and len(name) > 1:
        return name[:place] + name[place + 1 :]
    if kind == 2:
        return f"{name[: place + 1]}{draw.choice([*LETTERS])}{name[place + 1 :]}"
    if kind == 3 and place + 1 < len(name):
        return name[:place] + name[place + 1] + name[place] + name[place + 2 :]
    return one_letter_wrong(name, draw)


WRITINGS: dict[str, Callable[[str, Draw], str]] = {
    "as they are": lambda name, draw: name,
    "one letter wrong": one_letter_wrong,
    "any error": any_error,
}


def one_run(
    dataset: SurnameDataset, settings: dict[str, Any], out: Path, backend: str, place: Place
) -> list[dict[str, Any]]:
    """Train; a row for val, and one for test."""
    of_training = {field.name for field in fields(TrainingConfig)} & settings.keys()
    config = TrainingConfig(**{name: settings[name] for name in of_training})
    run = Run.make(dataset, config, model_settings(settings), get_backend(backend), out)
    run.train(shown=Shown(place))
    rows = []
    for split in ("val", "test"):
        frame, draw = dataset.frames[split], np.random.default_rng(config.seed)
        row = {"typing_errors": config.typing_errors, "seed": config.seed, "split": split}
        for written, change in WRITINGS.items():
            names = [change(name, draw) for name in frame["surname"]]
            said = [each.nationality for each in run.classifier.predict(names)]
            row[written] = float(np.mean([*map(str.__eq__, said, frame["nationality"])]))
        rows.append(row)
    return rows


def main() -> int:
    """Train with every fraction and seed, print a table, write a CSV."""
    parser = script_parser(__doc__, "out/typing_errors")
    add_table(parser)
    parser.add_argument("--recipe", choices=list(RECIPES), help="of the model (default: none)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="how many")
    parser.add_argument("--backend", default="numpy", metavar="NAME", help="where to compute")
    options = parser.parse_args()
    settings = {**RECIPES.get(options.recipe or "", {}), "gradient_flow": False}
    settings |= {"num_epochs": 2} if options.quick else {}
    seeds = range(options.seed, options.seed + (1 if options.quick else options.seeds))
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    backend = get_backend(options.backend).name
    options.out.mkdir(parents=True, exist_ok=True)
    runs = [
        (dataset, settings | {"seed": seed, "typing_errors": fraction},
         options.out / f"{fraction}" / str(seed), backend)
        for seed in seeds for fraction in FRACTIONS
    ]  # fmt: skip
    rows = [row for found in calls_of(one_run, runs, backend=backend) for row in found]
    write_csv(options.out / "typing_errors.csv", rows)

    def means(split: str, fraction: float) -> list[float]:
        of_it = [r for r in rows if r["split"] == split and r["typing_errors"] == fraction]
        return [statistics.mean(row[written] for row in of_it) for written in WRITINGS]

    on_val = {fraction: means("val", fraction) for fraction in FRACTIONS}
    chosen = max(FRACTIONS, key=lambda fraction: on_val[fraction][0] + on_val[fraction][-1])
    print(f"{len(seeds)} seeds, mean accuracy: {', '.join(WRITINGS)}; chosen on val: {chosen}")
    for split, those in (("val", FRACTIONS), ("test", dict.fromkeys((0.0, chosen)))):
        for fraction in those:
            found = "  ".join(f"{value:.4f}" for value in means(split, fraction))
            print(f"{split:<4}  typing errors {fraction}: {found}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded("typing_errors.py", main))
