"""What came of a training, for a terminal: scores, and names that the model is tried on."""

from __future__ import annotations

import numpy as np

from npnlp.classifier.evaluation import Evaluation
from npnlp.classifier.inspection import Outcomes, probability_scores
from npnlp.runs.run import Run
from npnlp.text.labels import NATIONALITIES

SAMPLES = ("McMahan", "Nakamoto", "Wan", "Cho")


def samples_of(training: Run) -> dict[str, str]:
    """The book's names, for a model of its nationalities; else test names, with what they are."""
    if {*NATIONALITIES} == {*training.dataset.get_vectorizer().nationality_vocab.tokens}:
        return dict.fromkeys(SAMPLES, "")
    rows = training.dataset.rows
    test = rows.places("test")
    once = test[np.sort(np.unique(rows.name_ids[test], return_index=True)[1])]
    some = rows.take(once[:: -(-len(once) // len(SAMPLES))])
    labels = (f" (in the table: {label})" for label in some.labels)
    return dict(zip(some.names, labels, strict=True))


def metrics_table(evaluations: dict[str, Evaluation]) -> list[str]:
    """Loss and scores of each split as lines; every row counts, dropout is off."""
    columns = ("rows", "loss", "accuracy", "balanced", "macro F1")
    lines = ["{:<6} {:>6} {:>8} {:>9} {:>9} {:>9}".format("split", *columns)]
    for split, found in evaluations.items():
        m = found.metrics
        lines.append(
            f"{split:<6} {found.confusion.sum():>6} {m['loss']:>8.4f} {m['accuracy']:>9.4f} "
            f"{m['balanced_accuracy']:>9.4f} {m['macro_f1']:>9.4f}"
        )
    return lines


def probability_table(
    before: dict[str, Outcomes], after: dict[str, Outcomes], temperature: float
) -> list[str]:
    """How good the probabilities of each split are, and in brackets without the temperature."""
    lines = [
        "",
        f"Probabilities at the temperature {temperature:.3f}, and in brackets without it; the last "
        "column is what a calibrated model would show:",
        "{:<6} {:>17} {:>17} {:>17} {:>9}".format(
            "split", "log loss", "Brier", "calibration error", "by chance"
        ),
    ]
    for split, found in after.items():
        with_it, without = probability_scores(found), probability_scores(before[split])
        names = ("log_loss", "brier", "calibration_error")
        pairs = [f"{with_it[name]:.4f} ({without[name]:.4f})" for name in names]
        by_chance = f"{with_it['calibration_error_by_chance']:.4f}"
        lines.append("{:<6} {:>17} {:>17} {:>17} {:>9}".format(split, *pairs, by_chance))
    return lines
