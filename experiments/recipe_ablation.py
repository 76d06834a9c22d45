"""What each part of a recipe brings: the recipe without it, over several seeds, scored on val.

Differences to the whole recipe are those of runs with the same seed, with intervals over seeds.
Test is not read. What was tried and not taken is there too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from npnlp.cli.pictures import add_format, output_of
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.errors import InputError
from npnlp.files import write_csv
from npnlp.lab.comparison import (
    answers_of,
    corrected,
    entrant_of,
    log_prior_of,
    paired_rows,
    score,
    train_all,
)
from npnlp.lab.pictures.scores import WHOLE
from npnlp.lab.pictures.scores import recipe_ablation as draw
from npnlp.text import SurnameDataset
from npnlp.training.recipes import RECIPES

#: What is changed, in the settings of recipes. One that changes nothing is left out.
VARIANTS: dict[str, dict[str, Any]] = {
    "no n-grams": {"ngram_orders": []},
    "one pass a batch, no consistency": {"consistency": 0.0},
    "plateau, early stopping": {"schedule": "plateau", "num_epochs": 100},
    "weight decay 0.1": {"weight_decay": 0.1},
    "weight decay 0.01": {"weight_decay": 0.01},
    "no label smoothing": {"label_smoothing": 0.0},
    "repeated names not merged": {"merge_repeats": False},
    "repeated names merged": {"merge_repeats": True},
    "last state only": {"pooling": "last"},
    "maximum and mean of the states": {"pooling": "max+mean"},
    "n-grams of a single name too": {"ngram_min_count": 1},
    "batches of 64, rate 0.003": {"batch_size": 64, "learning_rate": 0.003},
    "one direction": {"bidirectional": False},
    "n-gram dropout 0.5": {"ngram_dropout": 0.5},
    "no dropped characters": {"char_dropout": 0.0},
    "no embedding dropout": {"embedding_dropout": 0.0},
    "a hidden linear layer": {"hidden_layer": True},
    "batches of any lengths": {"bucket": 0},
    "adjusted while training": {"logit_adjustment": 0.3, "prior_correction": 0.0},
    "no correction": {"prior_correction": 0.0},
    "correction 0.15": {"prior_correction": 0.15},
    "correction 0.5": {"prior_correction": 0.5},
    "correction 1": {"prior_correction": 1.0},
}
AFTERWARDS = {"prior_correction"}
QUICK = ("no n-grams", "no correction")
QUICK_ROWS = 10


def variants_of(recipe: Mapping[str, Any], names: list[str]) -> dict[str, dict[str, Any]]:
    """The options of the whole recipe and of each variant that is not the same."""
    chosen = {name: {**recipe, **VARIANTS[name]} for name in names}
    return {WHOLE: dict(recipe)} | {n: o for n, o in chosen.items() if o != recipe}


def rows_of(
    variants: dict[str, dict[str, Any]], dataset: SurnameDataset, seeds: range, jobs: int
) -> Iterator[dict[str, Any]]:
    """A row for each run. What differs only in what is done after training is trained once."""
    answers, prior = answers_of(dataset, "val"), log_prior_of(dataset)
    whole = variants[WHOLE]
    trained: list[Any] = []
    for name, options in variants.items():
        changed = {key for key in options if options[key] != whole.get(key)}
        results, tau = trained, 0.0
        if name == WHOLE or not changed <= AFTERWARDS:
            results = train_all(entrant_of(name, options), dataset, seeds, jobs, ("val",))
            trained = trained or results
        else:
            tau = options["prior_correction"] - whole["prior_correction"]
        for seed, result in zip(seeds, results, strict=True):
            probabilities = result.probabilities["val"]
            if tau:
                probabilities = corrected(probabilities, prior, tau)
            yield {
                "variant": name,
                "seed": seed,
                **score(probabilities, answers),
                "parameters": result.parameters,
                "seconds": result.seconds,
                "epochs": result.epochs,
            }


def small(dataset: SurnameDataset) -> SurnameDataset:
    """Some rows of each nationality and split."""
    groups = dataset.surname_df.groupby(["nationality", "split"])
    return SurnameDataset(groups.head(QUICK_ROWS), dataset.get_vectorizer())


def main() -> int:
    """Train, print a table, write CSV files and a picture."""
    parser = script_parser(__doc__, "out/recipe_ablation")
    add_table(parser)
    add_format(parser)
    parser.add_argument("--recipe", choices=list(RECIPES), default="wide", help="which one")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="how many")
    parser.add_argument("--jobs", type=int, default=1, metavar="N",
                        help="models at a time; the seconds of several are longer")  # fmt: skip
    parser.add_argument("--variants", nargs="+", metavar="NAME", default=list(VARIANTS),
                        help="which to train, besides the whole recipe")  # fmt: skip
    options = parser.parse_args()
    output = output_of(options, options.out)
    for name in options.variants:
        if name not in VARIANTS:
            raise InputError(f"variant {name!r} is not known; choose from {', '.join(VARIANTS)}")
    if options.seeds < 1:
        raise InputError(f"seeds are {options.seeds}; there has to be at least 1")
    recipe, names, count = RECIPES[options.recipe], options.variants, options.seeds
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    if options.quick:
        recipe, names, count = {**recipe, "num_epochs": 1}, list(QUICK), 2
        dataset = small(dataset)
    seeds = range(options.seed, options.seed + count)
    variants = variants_of(recipe, names)
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for row in rows_of(variants, dataset, seeds, options.jobs):
        rows.append(row)
        write_csv(options.out / "recipe_ablation_runs.csv", rows)  # after each, since they are long
    table = paired_rows(rows, "variant", WHOLE)
    write_csv(options.out / "recipe_ablation.csv", table)
    draw(options.out / "recipe_ablation_runs.csv", output.path("recipe_ablation"))
    for row in table:
        print(f"{row['variant']:<34} " + "  ".join(
            f"{name} {row[name]:.4f} ({100 * row[f'{name}_change']:+.2f})"
            for name in ("accuracy", "macro_f1")
        ))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(guarded("recipe_ablation.py", main))
