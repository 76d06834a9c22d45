"""What the estimator's ``fit`` does, from plain names and the numbers of their labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Random, get_backend
from npnlp.backend.threads import in_one_blas_thread
from npnlp.checks import require_fraction
from npnlp.classifier.building import make_classifier, model_settings
from npnlp.classifier.classifier import Classifier
from npnlp.classifier.finishing import finish
from npnlp.diagnosis.finding import examine
from npnlp.errors import InputError, require_known
from npnlp.estimator.given import plain, seed_of
from npnlp.models import ClassifierConfig
from npnlp.text import SplitArrays, SurnameDataset, SurnameVectorizer, Vocabulary
from npnlp.text.rows import Coded, Rows
from npnlp.text.texts import Texts
from npnlp.training.applicable import require_applicable
from npnlp.training.config import TrainingConfig
from npnlp.training.recipes import RECIPES
from npnlp.training.trainer import Trainer


@dataclass(frozen=True)
class Fitted:
    """A trained classifier, and a row for each epoch that it took."""

    classifier: Classifier
    history: list[dict[str, float]]


@in_one_blas_thread
def fit_model(
    names: list[str], labels: list[str], targets: NDArray[np.int64], params: Mapping[str, Any],
    weights: NDArray[np.float64] | None = None,
) -> Fitted:  # fmt: skip
    """Train on names whose labels are ``labels[targets]``, with an estimator's parameters.

    ``weights (n,)``, all above 0, are those of the rows in the loss.
    Raises :class:`InputError` for a parameter that is not what it has to be, and
    :class:`DivergenceError` where a number is not finite.
    """
    given = completed({name: plain(value) for name, value in params.items()})
    config = _training_config(given)
    held = held_out(targets, given["validation_fraction"], Random(config.seed, "validation"))
    dataset = _dataset(names, labels, targets, held)
    backend = get_backend(given["backend"])
    model = make_classifier(dataset, model_settings(given), backend, config.seed)
    train = _weighted(dataset.arrays("train"), weights, ~held)
    watched = _weighted(dataset.arrays("val"), weights, held) if held.any() else train
    trainer = Trainer(model, train, watched, config, examine=examine)
    while not trainer.finished:
        row = trainer.run_epoch()
        if given["verbose"]:
            print(
                f"epoch {row['epoch'] + 1}: loss {row['train_loss']:.4f}, "
                f"watched {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.3f}"
            )
    trainer.finish()
    classifier = finish(
        dataset, model, "val" if held.any() else "train", temperature=config.calibrate,
        half=config.store == "float16", weights=watched.weights,
    )  # fmt: skip
    return Fitted(classifier, list(trainer.progress.history))


def _weighted(
    split: SplitArrays, weights: NDArray[np.float64] | None, rows: NDArray[np.bool_]
) -> SplitArrays:
    """``split``, which holds these ``rows``, with their weights scaled to a mean of one."""
    if weights is None:
        return split
    return replace(split, weights=weights[rows] / weights[rows].mean())


def _training_config(given: Mapping[str, Any]) -> TrainingConfig:
    require_fraction("validation_fraction", given["validation_fraction"])
    values = {**given, "seed": seed_of(given["random_state"]), "gradient_flow": False}
    names = [field.name for field in fields(TrainingConfig) if field.name in values]
    return TrainingConfig(**{name: values[name] for name in names})


def completed(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters, with the recipe's values, or else the defaults, for those that are None.

    ``clip_norm="none"`` clips nothing, where a recipe would.

    Raises :class:`InputError` for a recipe that is not known, and for a parameter that is given and
    cannot apply.
    """
    given = {name: value for name, value in params.items() if value is not None}
    recipe = given.get("recipe")
    if recipe is not None:
        require_known("recipe", recipe, RECIPES)
    defaults = {field.name: field.default for kind in (ClassifierConfig, TrainingConfig)
                for field in fields(kind) if field.default is not MISSING}  # fmt: skip
    chosen = {**params, **defaults, **RECIPES.get(recipe or "", {}), **given}
    require_applicable(given, chosen)
    if chosen["clip_norm"] == "none":
        chosen["clip_norm"] = None
    return chosen


def held_out(targets: NDArray[np.int64], fraction: float, random: Random) -> NDArray[np.bool_]:
    """Which rows are for validation: ``fraction`` of each class, at least one row in all.

    Numbers are rounded so that they add up to ``fraction`` of all rows, the largest remainders
    first, and each class keeps a row to train on. A fraction of 0 holds out none.

    Raises :class:`InputError` where no class has a row to spare.
    """
    held = np.zeros(len(targets), dtype=bool)
    if not fraction:
        return held
    counts = np.bincount(targets)
    spare = np.maximum(counts - 1, 0)
    wanted = fraction * counts
    take = np.minimum(np.floor(wanted).astype(int), spare)
    missing = max(1, round(fraction * len(targets))) - take.sum()
    by_remainder = np.argsort(take - wanted, kind="stable")
    take[[label for label in by_remainder if take[label] < spare[label]][: max(missing, 0)]] += 1
    if not take.any():
        raise InputError(
            "no class has two rows, so none can be held out; set validation_fraction=0"
        )
    order = random.permutation(len(targets))
    for label, rows in enumerate(take):
        held[order[targets[order] == label][:rows]] = True
    return held


def _dataset(
    names: list[str], labels: list[str], targets: NDArray[np.int64], held: NDArray[np.bool_]
) -> SurnameDataset:
    """The names as a table whose characters are those of its train rows."""
    splits = Coded(held.astype(np.uint8), ("train", "val"))
    rows = Rows(Texts.of(names), Coded(targets, labels), splits)
    vectorizer = SurnameVectorizer.of(rows.take(rows.places("train")))
    vectorizer.nationality_vocab = Vocabulary({label: n for n, label in enumerate(labels)})
    return SurnameDataset(rows, vectorizer)
