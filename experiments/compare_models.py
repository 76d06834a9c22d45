"""Cells, weightings, the recipe and other libraries' models on one table, over several seeds.

Accuracy, balanced accuracy and macro F1 with intervals, on all test names and on those that train
has not, and by nationality; what training costs; parameters. All choices are made on val; each
trained model reads test once. With the extra ``peers``, a character n-gram logistic regression
(scikit-learn) and the same models in PyTorch run beside them.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from npnlp.classifier.inspection import wilson_interval
from npnlp.cli.pictures import add_format, output_of
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.errors import InputError
from npnlp.files import write_csv
from npnlp.lab.comparison import (
    Entrant,
    Result,
    default_entrants,
    ensemble,
    model_rows,
    nationality_rows,
    summary_rows,
    train_all,
)
from npnlp.lab.pictures.scores import compare_models as draw
from npnlp.optional import needs
from npnlp.text import SurnameDataset
from npnlp.training.recipes import RECIPES

NGRAMS = ("ngrams", "ngrams-balanced")
PYTORCH = {f"pytorch-{name}": name for name in ("elman", "gru", "lstm")}
#: What pip calls them.
PACKAGES = {"sklearn": "scikit-learn", "torch": "torch"}
OWN = {entrant.name: entrant for entrant in default_entrants()}
ENSEMBLES = {f"{name}-ensemble": name for name in RECIPES}
KNOWN = [*OWN, *ENSEMBLES, *NGRAMS, *PYTORCH]
QUICK_ROWS = 20


def needed(name: str) -> str | None:
    """The package that an entrant needs, if it is one of another library."""
    return "sklearn" if name in NGRAMS else "torch" if name in PYTORCH else None


def available(names: list[str]) -> list[str]:
    """Those whose package is installed; says which are left out."""
    for package, fix in PACKAGES.items():
        left = [name for name in names if needed(name) == package]
        if not left:
            continue
        try:
            with needs(f"{', '.join(left)} are left out", package, fix=fix):
                importlib.import_module(package)
        except InputError as error:
            print(error)
            names = [name for name in names if name not in left]
    return names


def shortened(entrant: Entrant, epochs: int | None) -> Entrant:
    """The entrant with so many epochs, unless None."""
    if epochs is None:
        return entrant
    return Entrant(entrant.name, entrant.shape, {**entrant.training, "num_epochs": epochs})


def ngram_result(dataset: SurnameDataset, name: str, out: Path) -> Result:
    """The n-gram model; what was tried on val goes into a file."""
    from peers import ngrams

    result, tried = ngrams.train(dataset, name)
    write_csv(out / f"{name}_choice.csv", tried)
    return result


def pytorch_result(dataset: SurnameDataset, entrant: Entrant, seed: int) -> Result:
    """PyTorch's module with the hyperparameters of an own model."""
    from peers import pytorch

    return pytorch.train(entrant, dataset, seed)


def results_of(
    names: list[str],
    dataset: SurnameDataset,
    seeds: dict[str, range],
    epochs: int | None,
    out: Path,
    jobs: int,
) -> Iterator[Result]:
    """A result for each run of each entrant, the ensemble of a recipe's runs after them."""
    for name in names:
        if name in NGRAMS:
            yield ngram_result(dataset, name, out)
        elif name in PYTORCH:
            entrant = shortened(OWN[PYTORCH[name]], epochs)
            yield from (pytorch_result(dataset, entrant, seed) for seed in seeds[name])
        elif name in OWN:
            runs = train_all(shortened(OWN[name], epochs), dataset, seeds[name], jobs)
            yield from runs
            joint = f"{name}-ensemble"
            if joint in names:
                yield ensemble(joint, runs)


def table(summary: list[dict[str, Any]]) -> Iterator[str]:
    """The summary as lines."""
    heads = ("accuracy", "balanced", "macro F1", "acc. unseen", "F1 unseen")
    names = ("accuracy", "balanced_accuracy", "macro_f1", "unseen_accuracy", "unseen_macro_f1")
    yield f"{'entrant':<20} {'runs':>4} {'parameters':>10} {'seconds':>7} " + " ".join(
        f"{head:>15}" for head in heads
    )
    for row in summary:
        cells = []
        for name in names:
            half = row[f"{name}_high"] - row[name]
            cells.append(
                f"{row[name]:.4f}" + (f" ± {half:.4f}" if not math.isnan(half) else " " * 9)
            )
        yield (f"{row['entrant']:<20} {row['runs']:>4} {row['parameters']:>10,} "
               f"{row['seconds']:>7.1f} " + " ".join(cells))  # fmt: skip


def small(dataset: SurnameDataset) -> SurnameDataset:
    """Some rows of each nationality and split."""
    groups = dataset.surname_df.groupby(["nationality", "split"])
    return SurnameDataset(groups.head(QUICK_ROWS), dataset.get_vectorizer())


def main() -> int:
    """Train all of them, print a table, write CSV files and a picture."""
    parser = script_parser(__doc__, "out/compare_models")
    add_table(parser)
    add_format(parser)
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="how many of a recipe")
    parser.add_argument("--jobs", type=int, default=1, metavar="N",
                        help="models at a time; the seconds of several are longer")  # fmt: skip
    parser.add_argument("--other-seeds", type=int, metavar="N",
                        help="how many of the others (default: as many)")  # fmt: skip
    parser.add_argument("--entrants", nargs="+", metavar="NAME", default=KNOWN,
                        help="which to train")  # fmt: skip
    options = parser.parse_args()
    output = output_of(options, options.out)
    for name in options.entrants:
        if name not in KNOWN:
            raise InputError(f"entrant {name!r} is not known; choose from {', '.join(KNOWN)}")
        if name in ENSEMBLES and ENSEMBLES[name] not in options.entrants:
            raise InputError(f"entrant {name!r} needs {ENSEMBLES[name]!r}; name both")
    many, few = options.seeds, options.other_seeds or options.seeds
    many, few, epochs = (2, 1, 1) if options.quick else (many, few, None)
    if min(many, few) < 1:
        raise InputError(f"seeds are {min(many, few)}; there has to be at least 1")
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    if options.quick:
        dataset = small(dataset)
    names = available([name for name in KNOWN if name in options.entrants])
    first = options.seed
    seeds = {name: range(first, first + (many if name in RECIPES else few)) for name in names}
    options.out.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    for result in results_of(names, dataset, seeds, epochs, options.out, options.jobs):
        results.append(result)
        # After each entrant, since they are long.
        write_csv(options.out / "models.csv", model_rows(results, dataset))
    summary = summary_rows(model_rows(results, dataset))
    write_csv(options.out / "summary.csv", summary)
    write_csv(options.out / "by_nationality.csv", nationality_rows(results, dataset))
    draw(options.out / "summary.csv", output.path("compare_models"))
    tested = len(dataset.frames["test"])
    best = max(row["accuracy"] for row in summary)
    low, high = wilson_interval(best, tested)
    print(f"{tested:,} test rows; mean ± half of the 95 % interval over seeds; seconds of one core")
    print("\n".join(table(summary)))
    print(f"The names are a sample too: an accuracy of {best:.4f} on so many rows is one of "
          f"{low:.4f} to {high:.4f}.")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(guarded("compare_models.py", main))
