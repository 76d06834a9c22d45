"""The figures of a model card, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from npnlp.classifier.evaluation import Evaluation
from npnlp.classifier.inspection import (
    BINS,
    Outcomes,
    by_class,
    probability_scores,
    reliability,
    wilson_interval,
)
from npnlp.files import markdown_table
from npnlp.runs.run import Run
from npnlp.text.labels import PLURAL

#: Fewer test rows than this say little about a class.
FEW = 30
NOTHING = "–"


def escaped(text: str) -> str:
    """A text that Markdown shows as it is, in a table too."""
    return re.sub(r"([\\`*_\[\]<>#|$~&])", r"\\\1", " ".join(text.split()))


def train_rows(run: Run) -> list[int]:
    """How many rows of train each class has."""
    targets = run.dataset.arrays("train").targets
    classes = run.trainer.model.config.num_classes
    return [int(rows) for rows in np.bincount(targets, minlength=classes)]


def _figure(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"


def results(run: Run, evaluations: Mapping[str, Evaluation]) -> str:
    """Loss and scores of every split, and how far chance moves the accuracy."""
    names = ("loss", "accuracy", "balanced_accuracy", "macro_f1")
    rows = [
        [split, f"{found.confusion.sum():,}", *(_figure(found.metrics[name]) for name in names)]
        for split, found in evaluations.items()
    ]
    test = evaluations["test"]
    low, high = wilson_interval(test.metrics["accuracy"], int(test.confusion.sum()))
    weighted = run.trainer.config.class_weights
    kind = "a plain mean over rows" if weighted == "none" else f"weighted by class ({weighted})"
    header = ["split", "rows", "loss", "accuracy", "balanced accuracy", "macro F1"]
    table = markdown_table(header, rows)
    return (
        f"{table}\n\nThe loss is {kind}. By the number of test rows alone, the accuracy on names "
        f"like these lies between {low:.3f} and {high:.3f} (95 %)."
    )


def by_nationality(run: Run, evaluations: Mapping[str, Evaluation]) -> str:
    """Rows, scores and the worst mistake of each class on test."""
    names = [escaped(name) for name in run.dataset.get_vectorizer().nationality_vocab.tokens]
    scores = by_class(evaluations["test"].confusion)
    rows = []
    for name, in_train, found in zip(names, train_rows(run), scores, strict=True):
        worst = NOTHING
        if found.confused_with:
            worst = f"{names[found.confused_with[0]]} ({found.confused_with[1]:,})"
        figures = (_figure(value) for value in (found.precision, found.recall, found.f1))
        rows.append([name, f"{in_train:,}", f"{found.rows:,}", *figures, worst])
    label = run.audit["label"]
    header = [label, "train rows", "test rows", "precision", "recall", "F1",
              "most often taken for (rows)"]  # fmt: skip
    few = sum(found.rows < FEW for found in scores)
    return (
        f"{markdown_table(header, rows)}\n\n{NOTHING}: nothing to count. Of {len(names)} "
        f"{PLURAL[label]}, {few} have fewer than {FEW} test rows; their figures are uncertain."
    )


def seen(run: Run, found: Outcomes) -> str:
    """Accuracy on test names that train has, as they are spelled, and on the others."""
    table, names = run.dataset.rows, run.dataset.rows.name_ids
    known = np.zeros(int(names.max()) + 1, dtype=bool)
    known[names[table.places("train")]] = True
    stands = known[names[table.places("test")]]
    rows = [
        [text, f"{which.sum():,}", _figure(found.right[which].mean() if which.any() else None)]
        for text, which in (("stands in train too", stands), ("was never seen", ~stands))
    ]
    return markdown_table(["the name", "test rows", "accuracy"], rows)


def calibration(run: Run, before: Outcomes, found: Outcomes) -> str:
    """How far the probabilities of test rows agree with how often they are right."""
    bins = reliability(found)
    scores = [probability_scores(each) for each in (before, found)]
    kinds = {"log_loss": "log loss (nats)", "brier": "Brier score",
             "calibration_error": "expected calibration error"}  # fmt: skip
    compared = [[kind, *(_figure(each[name]) for each in scores)] for name, kind in kinds.items()]
    chance = _figure(scores[1]["calibration_error_by_chance"])
    temperature = "It has no temperature: nothing was calibrated."
    if run.calibration is not None and run.temperature == 1:
        temperature = "No temperature would be of use on val, so it has none."
    elif run.calibration is not None:
        temperature = (
            f"The logits are divided by {run.temperature:.4f}, the temperature that suits val "
            "best; no answer changes."
        )
    rows = [
        [f"{each.low:.1f} to {each.high:.1f}", f"{each.rows:,}", _figure(each.confidence),
         _figure(each.accuracy)]
        for each in bins
    ]  # fmt: skip
    mean, accuracy = found.confidence.mean(), found.right.mean()
    return (
        f"On test, the model gives its answers a probability of {mean:.4f} on average, and "
        f"{accuracy:.4f} of them are right. {temperature}\n\n"
        f"{markdown_table(['on test', 'before calibration', 'as saved'], compared)}\n\n"
        f"Over {BINS} bins of equal width, a calibrated model would show an error of {chance} on "
        f"as many rows, by chance alone.\n\n"
        f"{markdown_table(['probability', 'test rows', 'mean probability', 'accuracy'], rows)}"
    )
