"""A closer look at predictions: by class, by confidence, and how sure the figures are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.threads import in_one_blas_thread
from npnlp.classifier.batches import by_length
from npnlp.layers import softmax
from npnlp.models import SurnameClassifier
from npnlp.summary import summarized
from npnlp.text import SplitArrays


@summarized
@dataclass(frozen=True)
class Outcomes:
    """For each row of a split, whether its prediction is right, and with what probability."""

    right: NDArray[np.bool_]
    confidence: NDArray[np.float64]


@in_one_blas_thread
def outcomes(model: SurnameClassifier, split: SplitArrays) -> Outcomes:
    """Every row of a split, dropout off, in the batches of :func:`evaluate`: the same logits."""
    backend = model.backend
    right = np.empty(len(split), dtype=bool)
    confidence = np.empty(len(split))
    for batch in by_length(split, backend):
        logits, _ = model.forward(**batch.inputs)
        right[batch.rows] = backend.to_numpy(logits.argmax(axis=1) == batch.targets)
        confidence[batch.rows] = backend.to_numpy(softmax(logits, backend.xp).max(axis=1))
    return Outcomes(right, confidence)


@dataclass(frozen=True)
class ClassScores:
    """How one class fares; None where there is nothing to divide by.

    ``confused_with`` is the class most often predicted in its place, with the number of rows; the
    first of several.
    """

    rows: int
    precision: float | None
    recall: float | None
    f1: float | None
    confused_with: tuple[int, int] | None


def by_class(confusion: NDArray[np.int64]) -> list[ClassScores]:
    """The scores of each class, from a confusion matrix whose rows are the true classes."""
    found = []
    for label, row in enumerate(confusion):
        hits, true, predicted = int(row[label]), int(row.sum()), int(confusion[:, label].sum())
        wrong = row.copy()
        wrong[label] = 0
        worst = int(wrong.argmax())
        found.append(
            ClassScores(
                rows=true,
                precision=hits / predicted if predicted else None,
                recall=hits / true if true else None,
                f1=2 * hits / (true + predicted) if true + predicted else None,
                confused_with=(worst, int(wrong[worst])) if wrong[worst] else None,
            )
        )
    return found


@dataclass(frozen=True)
class Bin:
    """Rows whose confidence lies in ``(low, high]``: how many, its mean, and their accuracy."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


def reliability(found: Outcomes, bins: int = 10) -> list[Bin]:
    """The rows by confidence, in ``bins`` of equal width; those without rows are left out."""
    place = np.clip(np.ceil(found.confidence * bins).astype(int) - 1, 0, bins - 1)
    return [
        Bin(
            low=number / bins,
            high=(number + 1) / bins,
            rows=int((place == number).sum()),
            confidence=float(found.confidence[place == number].mean()),
            accuracy=float(found.right[place == number].mean()),
        )
        for number in range(bins)
        if (place == number).any()
    ]


def expected_calibration_error(bins: list[Bin]) -> float:
    """The mean over rows of ``|accuracy - confidence|`` of their bin.

    Source: Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
    binning", 2015.
    """
    rows = sum(each.rows for each in bins)
    return sum(each.rows * abs(each.accuracy - each.confidence) for each in bins) / rows


def wilson_interval(fraction: float, rows: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a fraction that was counted among ``rows`` (Wilson, 1927)."""
    middle = (fraction + z * z / (2 * rows)) / (1 + z * z / rows)
    half = (
        z * math.sqrt(fraction * (1 - fraction) / rows + (z / (2 * rows)) ** 2) / (1 + z * z / rows)
    )
    return middle - half, middle + half
