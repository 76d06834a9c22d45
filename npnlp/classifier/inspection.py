"""A closer look at predictions: by class, by confidence, and how sure the figures are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.threads import in_one_blas_thread
from npnlp.classifier.batches import by_length
from npnlp.layers.soft_loss import log_softmax
from npnlp.models import SurnameClassifier
from npnlp.summary import summarized
from npnlp.text import SplitArrays

#: Bins of the expected calibration error.
BINS = 15


@summarized
@dataclass(frozen=True)
class Outcomes:
    """For each row of a split, whether its prediction is right, and how probable things were.

    ``confidence`` is the probability of the answer, ``log_truth`` the logarithm of that of the
    row's class, ``brier`` the sum over the classes of ``(p - 1[true])^2``.
    """

    right: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    log_truth: NDArray[np.float64]
    brier: NDArray[np.float64]

    @classmethod
    def of_rows(cls, count: int) -> Self:
        """Room for those of ``count`` rows."""
        return cls(np.empty(count, np.bool_), *np.empty((3, count)))

    def put(
        self, rows: NDArray[np.int64], logits: NDArray[Any], targets: NDArray[np.int64]
    ) -> None:
        """Note those of some rows, from their logits in float64."""
        log_p = log_softmax(logits, np)
        p, log_truth = np.exp(log_p), log_p[np.arange(len(rows)), targets]
        self.right[rows] = logits.argmax(axis=1) == targets
        self.confidence[rows], self.log_truth[rows] = p.max(axis=1), log_truth
        self.brier[rows] = (p * p).sum(axis=1) - 2 * np.exp(log_truth) + 1


@in_one_blas_thread
def logits_of(model: SurnameClassifier, split: SplitArrays) -> NDArray[Any]:
    """The logits ``(n, C)`` of every row, dropout off, in the batches of :func:`evaluate`."""
    out = np.empty((len(split), model.config.num_classes), dtype=model.dtype)
    for rows, logits in logits_by_batch(model, split):
        out[rows] = logits
    return out


def logits_by_batch(
    model: SurnameClassifier, split: SplitArrays
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """The rows of each batch, and their logits."""
    for batch in by_length(split, model.backend):
        logits = model.forward(**batch.inputs)[0]  # the caches go at once
        yield batch.rows, model.backend.to_numpy(logits)


def outcomes(model: SurnameClassifier, split: SplitArrays, factor: float = 1.0) -> Outcomes:
    """Every row of a split, dropout off, the logits times ``factor``."""
    (found,) = outcomes_at(model, split, (factor,))
    return found


@in_one_blas_thread
def outcomes_at(
    model: SurnameClassifier, split: SplitArrays, factors: Sequence[float]
) -> list[Outcomes]:
    """:func:`outcomes` with each of ``factors``, of one forward pass.

    Of all classes no more is kept than a batch of logits.
    """
    made = [Outcomes.of_rows(len(split)) for _ in factors]
    for rows, logits in logits_by_batch(model, split):
        for found, factor in zip(made, factors, strict=True):
            found.put(rows, factor * logits.astype(np.float64), split.targets[rows])
    return made


def probability_scores(found: Outcomes) -> dict[str, float]:
    """How good the probabilities are, by the names of ``metrics.json``; lower is better."""
    bins = reliability(found, BINS)
    return {
        "log_loss": float(-found.log_truth.mean()),
        "brier": float(found.brier.mean()),
        "calibration_error": expected_calibration_error(bins),
        "calibration_error_by_chance": error_by_chance(found),
    }


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


#: The columns of ``reliability.csv``.
RELIABILITY = ("calibrated", "low", "high", "rows", "confidence", "accuracy")


def reliability_rows(before: Outcomes, after: Outcomes) -> list[list[float]]:
    """The rows of ``reliability.csv``: the bins before calibration, and those after it."""
    return [
        [calibrated, each.low, each.high, each.rows, each.confidence, each.accuracy]
        for calibrated, found in enumerate((before, after))
        for each in reliability(found, BINS)
    ]


def reliability(found: Outcomes, bins: int = 10) -> list[Bin]:
    """The rows by confidence, in ``bins`` of equal width; those without rows are left out."""
    place = _bin_of(found.confidence, bins)
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


def _bin_of(confidence: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """The number of the bin ``(low, high]`` of each; the first one has 0, too."""
    place: NDArray[np.int64] = np.ceil(confidence * bins).astype(np.int64) - 1
    return np.clip(place, 0, bins - 1)


def expected_calibration_error(bins: list[Bin]) -> float:
    """The mean over rows of ``|accuracy - confidence|`` of their bin.

    Source: Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
    binning", 2015.
    """
    rows = sum(each.rows for each in bins)
    return sum(each.rows * abs(each.accuracy - each.confidence) for each in bins) / rows


def error_by_chance(found: Outcomes, bins: int = BINS) -> float:
    """The expected calibration error of as many rows, were each right as often as it is sure.

    The number of right answers in a bin has the variance ``v = sum c (1 - c)``; a normal number
    with it is ``sqrt(2 v / pi)`` from its mean on average.
    """
    c = found.confidence
    variance = np.bincount(_bin_of(c, bins), c * (1 - c), bins)
    return float(np.sqrt(2 * variance / np.pi).sum() / len(c))


def wilson_interval(fraction: float, rows: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a fraction that was counted among ``rows`` (Wilson, 1927)."""
    middle = (fraction + z * z / (2 * rows)) / (1 + z * z / rows)
    half = (
        z * math.sqrt(fraction * (1 - fraction) / rows + (z / (2 * rows)) ** 2) / (1 + z * z / rows)
    )
    return middle - half, middle + half
