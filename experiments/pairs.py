"""Pairs of surnames, as one string and read in parts.

Each seed trains a model, which then chooses on the validation split how it reads names
(:mod:`npnlp.text.parts`). Pairs are made of two names of one nationality of the test split, drawn
at random and joined by a hyphen or a space; triples likewise. The same weights read them whole, and
as was chosen. So they read the test names as they are, and "van der", "de la", "St." and the like
before the test names of the nationality that has them. Dropout is off.
"""

from __future__ import annotations

import statistics
import sys
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

#: What stands before a surname, by nationality.
PARTICLES = {
    "Arabic": ("Al-", "El-", "Abu "), "Dutch": ("van ", "van der ", "de "), "English": ("St. ",),
    "French": ("de ", "de la ", "Le "), "German": ("von ", "von der "), "Irish": ("O'", "Mac "),
    "Italian": ("di ", "Della "), "Portuguese": ("da ", "dos "), "Spanish": ("de la ", "del "),
}  # fmt: skip
Examples = dict[str, tuple[list[str], list[str]]]


def examples_of(dataset: SurnameDataset, seed: int) -> Examples:
    """Names and nationalities, by what they are made of."""
    test = dataset.frames["test"]
    names, labels = list(test["surname"]), list(test["nationality"])
    draw = np.random.default_rng(seed)
    by_label = {label: rows["surname"].tolist() for label, rows in test.groupby("nationality")}
    others = [[draw.choice(by_label[label]) for label in labels] for _ in range(2)]

    def joined(mark: str, *more: list[str]) -> tuple[list[str], list[str]]:
        return [mark.join(each) for each in zip(names, *more, strict=True)], labels

    with_particle = [
        (particle + name, label)
        for name, label in zip(names, labels, strict=True)
        for particle in PARTICLES.get(label, ())
    ]
    return {
        "test names": (names, labels),
        "pairs, hyphen": joined("-", others[0]),
        "pairs, space": joined(" ", others[0]),
        "triples, hyphen": joined("-", *others),
        "with particle": ([n for n, _ in with_particle], [label for _, label in with_particle]),
    }


def one_run(
    dataset: SurnameDataset, recipe: str | None, seed: int, epochs: int | None, out: Path,
    backend: str, place: Place,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train as ``npnlp train --seed SEED`` does; the test accuracies, by the way of reading."""
    settings = {**RECIPES.get(recipe or "", {}), "seed": seed, "gradient_flow": False}
    settings |= {"num_epochs": epochs} if epochs else {}
    of_training = {field.name for field in fields(TrainingConfig)} & settings.keys()
    config = TrainingConfig(**{name: settings[name] for name in of_training})
    run = Run.make(dataset, config, model_settings(settings), get_backend(backend),
                   out / str(seed))  # fmt: skip
    run.train(shown=Shown(place))
    classifier, vectorizer = run.classifier, dataset.get_vectorizer()
    chosen = vectorizer.split_at
    rows: list[dict[str, Any]] = []
    for reading, split_at in (("whole", {}), ("in parts", chosen)):
        vectorizer.split_at = split_at
        row: dict[str, Any] = {"read": reading, "seed": seed, "split_at": split_at}
        for made_of, (names, labels) in examples_of(dataset, seed).items():
            said = [each.nationality for each in classifier.predict(names)]
            right = [one == label for one, label in zip(said, labels, strict=True)]
            row[made_of] = sum(right) / max(len(right), 1)
        rows.append(row)
    return rows


def main() -> int:
    """Train with every seed, print a table, write a CSV."""
    parser = script_parser(__doc__, "out/pairs")
    add_table(parser)
    parser.add_argument("--recipe", choices=list(RECIPES), help="of the model (default: none)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="how many")
    parser.add_argument("--backend", default="numpy", metavar="NAME", help="where to compute")
    options = parser.parse_args()
    count, epochs = (2, 2) if options.quick else (options.seeds, None)
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    backend = get_backend(options.backend).name
    options.out.mkdir(parents=True, exist_ok=True)
    runs = [
        (dataset, options.recipe, seed, epochs, options.out, backend)
        for seed in range(options.seed, options.seed + count)
    ]
    rows = [row for found in calls_of(one_run, runs, backend=backend) for row in found]
    write_csv(options.out / "pairs.csv", rows)
    print(f"{len(dataset.frames['test']):,} test rows, {count} seeds: mean accuracy (range)")
    for reading in ("whole", "in parts"):
        of_reading = [row for row in rows if row["read"] == reading]
        print(f"read {reading}: " + "; ".join({str(row["split_at"]) for row in of_reading}))
        for made_of in list(rows[0])[3:]:
            values = [row[made_of] for row in of_reading]
            print(f"  {made_of:<16} {statistics.mean(values):.4f} "
                  f"({min(values):.4f} to {max(values):.4f})")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(guarded("pairs.py", main))
