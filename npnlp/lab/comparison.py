"""Several models on one table, over several seeds: what they score, with intervals, and cost."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import get_backend
from npnlp.classifier.inspection import by_class
from npnlp.classifier.metrics import confusion_matrix, scores
from npnlp.errors import InputError
from npnlp.models import ClassifierConfig
from npnlp.runs.intervals import named_interval
from npnlp.runs.run import Run
from npnlp.runs.seeds import Shown
from npnlp.runs.side_by_side import Place, calls_of
from npnlp.summary import summarized
from npnlp.text import SurnameDataset, clean_name
from npnlp.training.config import TrainingConfig
from npnlp.training.objective import log_frequencies
from npnlp.training.recipes import RECIPES

SCORES = ("accuracy", "balanced_accuracy", "macro_f1")
#: All rows, and those whose name train has not.
SCOPES = ("", "unseen_")


@dataclass(frozen=True)
class Entrant:
    """A model to be trained: fields of :class:`ClassifierConfig`, and of the training."""

    name: str
    shape: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


def entrant_of(name: str, settings: Mapping[str, Any]) -> Entrant:
    """An entrant from settings of both kinds, as recipes are written."""
    given = dict(settings)
    shape, training = (
        {each.name: given.pop(each.name) for each in fields(kind) if each.name in given}
        for kind in (ClassifierConfig, TrainingConfig)
    )
    if given:
        raise InputError(f"setting {next(iter(given))!r} of {name} is not known")
    return Entrant(name, shape, training)


CELLS: dict[str, dict[str, Any]] = {
    "elman": {"cell": "elman"},
    "gru": {"cell": "gru"},
    "lstm": {"cell": "lstm"},
    "bigru-128": {"cell": "gru", "bidirectional": True, "rnn_hidden_size": 128},
    "transformer": {"cell": "transformer", "pooling": "mean", "rnn_dropout": 0.1},
}


def default_entrants() -> list[Entrant]:
    """Every cell with the defaults of ``npnlp train``, unweighted and weighted, and the recipes."""
    cells = [
        Entrant(
            name if weights == "none" else f"{name}-{weights}", shape, {"class_weights": weights}
        )
        for name, shape in CELLS.items()
        for weights in ("none", "inverse")
    ]
    return [*cells, *(entrant_of(name, settings) for name, settings in RECIPES.items())]


@summarized
@dataclass(frozen=True)
class Result:
    """A trained model: the probabilities ``(n, C)`` it gives to the rows of some splits.

    ``seconds`` are those of one core that training took, the validation after each epoch included;
    ``seed`` is None where there is no chance in it.
    """

    entrant: str
    seed: int | None
    probabilities: Mapping[str, NDArray[Any]]
    parameters: int
    seconds: float
    epochs: int


def train_all(
    entrant: Entrant, dataset: SurnameDataset, seeds: Sequence[int], jobs: int = 1,
    splits: Sequence[str] = ("val", "test"),
) -> list[Result]:  # fmt: skip
    """:func:`train` with every seed, ``jobs`` of them at a time.

    With one at a time ``seconds`` are those of a core that has the machine to itself.
    """
    return calls_of(train, [(entrant, dataset, seed, splits) for seed in seeds], jobs)


def train(
    entrant: Entrant, dataset: SurnameDataset, seed: int,
    splits: Sequence[str] = ("val", "test"), place: Place | None = None,
) -> Result:  # fmt: skip
    """Train as ``npnlp train`` does; the probabilities on ``splits`` and on no other split."""
    config = TrainingConfig(**entrant.training, seed=seed, gradient_flow=False)
    with tempfile.TemporaryDirectory() as folder:
        made = Run.make(
            dataset, config, dict(entrant.shape), get_backend("numpy"), Path(folder) / "run"
        )
        started = time.process_time()
        made.train(shown=Shown(place) if place else None)
        seconds = time.process_time() - started
    return Result(
        entrant.name,
        seed,
        {
            split: made.classifier.probabilities(list(dataset.frames[split]["surname"]))
            for split in splits
        },
        made.trainer.model.config.parameter_count,
        seconds,
        len(made.trainer.progress.history),
    )


def ensemble(name: str, results: Sequence[Result]) -> Result:
    """The ensemble of them, which gives the mean of their probabilities."""
    splits = results[0].probabilities
    return Result(
        name,
        None,
        {split: np.mean([r.probabilities[split] for r in results], axis=0) for split in splits},
        sum(result.parameters for result in results),
        sum(result.seconds for result in results),
        sum(result.epochs for result in results),
    )


@summarized
@dataclass(frozen=True)
class Answers:
    """The targets of a split, and for each row whether its name is missing in train."""

    targets: NDArray[np.int64]
    unseen: NDArray[np.bool_]
    nationalities: list[str]


def answers_of(dataset: SurnameDataset, split: str) -> Answers:
    """The answers of a split."""
    known = {clean_name(name) for name in dataset.frames["train"]["surname"]}
    unseen = [clean_name(name) not in known for name in dataset.frames[split]["surname"]]
    vocabulary = dataset.get_vectorizer().nationality_vocab
    return Answers(dataset.arrays(split).targets, np.array(unseen), list(vocabulary.tokens))


def confusion_of(
    probabilities: NDArray[Any], answers: Answers, rows: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """The confusion matrix of all rows, or of some."""
    chosen = slice(None) if rows is None else rows
    predictions = probabilities.argmax(axis=1)
    classes = len(answers.nationalities)
    return confusion_matrix(answers.targets[chosen], predictions[chosen], classes)


def score(probabilities: NDArray[Any], answers: Answers) -> dict[str, float]:
    """Each of ``SCORES`` in each of ``SCOPES``; NaN where there is no row."""
    unseen = dict.fromkeys(SCORES, math.nan)
    if answers.unseen.any():
        unseen = scores(confusion_of(probabilities, answers, answers.unseen))
    every = scores(confusion_of(probabilities, answers))
    found = zip(SCOPES, (every, unseen), strict=True)
    return {f"{scope}{name}": kind[name] for scope, kind in found for name in SCORES}


def model_rows(results: Sequence[Result], dataset: SurnameDataset) -> list[dict[str, Any]]:
    """A row a trained model: its cost, its scores on test, and two on val."""
    answers = {split: answers_of(dataset, split) for split in ("val", "test")}
    rows = []
    for result in results:
        val, test = (score(result.probabilities[s], answers[s]) for s in answers)
        rows.append({
            "entrant": result.entrant,
            "seed": "" if result.seed is None else result.seed,
            "parameters": result.parameters,
            "seconds": result.seconds,
            "epochs": result.epochs,
            **test,
            "val_accuracy": val["accuracy"],
            "val_macro_f1": val["macro_f1"],
        })  # fmt: skip
    return rows


def summary_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row an entrant: the mean of its runs, and an interval of every score on test."""
    found = []
    for entrant in dict.fromkeys(row["entrant"] for row in rows):
        own = [row for row in rows if row["entrant"] == entrant]
        summary = {
            "entrant": entrant,
            "runs": len(own),
            "parameters": own[0]["parameters"],
            "seconds": float(np.mean([row["seconds"] for row in own])),
        }
        for name in (f"{scope}{each}" for scope in SCOPES for each in SCORES):
            summary |= named_interval(name, [row[name] for row in own])
        found.append(summary)
    return found


def nationality_rows(results: Sequence[Result], dataset: SurnameDataset) -> list[dict[str, Any]]:
    """A row for each entrant and nationality of the test rows: recall and F1 with intervals."""
    answers, found = answers_of(dataset, "test"), []
    for entrant in dict.fromkeys(result.entrant for result in results):
        of_runs = [
            by_class(confusion_of(result.probabilities["test"], answers))
            for result in results
            if result.entrant == entrant
        ]
        for label, nationality in enumerate(answers.nationalities):
            runs = [each[label] for each in of_runs]
            if runs[0].rows:
                found.append({
                    "entrant": entrant,
                    "nationality": nationality,
                    "rows": runs[0].rows,
                    **named_interval("recall", [run.recall or 0.0 for run in runs]),
                    **named_interval("f1", [run.f1 or 0.0 for run in runs]),
                })  # fmt: skip
    return found


def corrected(probabilities: NDArray[Any], log_prior: NDArray[Any], tau: float) -> NDArray[Any]:
    """The probabilities once ``tau`` times ``log_prior`` is taken off the logits.

    It is what ``prior_correction`` does to a trained model; a negative ``tau`` undoes it.
    """
    changed = probabilities * np.exp(-tau * log_prior)
    normalized: NDArray[Any] = changed / changed.sum(axis=1, keepdims=True)
    return normalized


def log_prior_of(dataset: SurnameDataset) -> NDArray[Any]:
    """The logarithm of each class's frequency in train, as the trainer takes it."""
    classes = len(dataset.get_vectorizer().nationality_vocab)
    return log_frequencies(dataset.arrays("train").targets, classes)


def paired_changes(
    rows: Sequence[Mapping[str, Any]], kind: str, base: str, name: str
) -> dict[str, list[float]]:
    """By variant (the column ``kind``), for each seed its score less that of ``base``."""
    of_base = {row["seed"]: row[name] for row in rows if row[kind] == base}
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row[kind], []).append(row[name] - of_base[row["seed"]])
    return found


def paired_rows(rows: Sequence[Mapping[str, Any]], kind: str, base: str) -> list[dict[str, Any]]:
    """A row a variant: mean scores, and the intervals of their changes, paired by seed."""
    names = ("accuracy", "macro_f1")
    changes = {name: paired_changes(rows, kind, base, name) for name in names}
    return [
        {
            kind: variant,
            "runs": len(changes["accuracy"][variant]),
            **{
                column: value
                for name in names
                for column, value in {
                    name: float(np.mean([row[name] for row in rows if row[kind] == variant])),
                    **named_interval(f"{name}_change", changes[name][variant]),
                }.items()
            },
        }
        for variant in changes["accuracy"]
    ]
