"""A model on every row of a split, dropout off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.threads import in_one_blas_thread
from npnlp.classifier.batches import by_length, require_split
from npnlp.classifier.inspection import Outcomes
from npnlp.classifier.metrics import confusion_matrix, scores
from npnlp.layers import SoftmaxCrossEntropy
from npnlp.layers.soft_loss import log_softmax
from npnlp.models import SurnameClassifier
from npnlp.summary import summarized
from npnlp.text import SplitArrays


@summarized
@dataclass(frozen=True)
class Evaluation:
    """``loss``, the (weighted) mean over all rows, and the confusion matrix ``(C, C)``.

    ``outcomes`` are those of each row, for each of the factors that were asked for.
    """

    loss: float
    confusion: NDArray[np.int64]
    outcomes: tuple[Outcomes, ...] = ()

    @property
    def metrics(self) -> dict[str, float]:
        """Loss and scores, by the names of ``metrics.json``."""
        return {"loss": self.loss, **scores(self.confusion)}


def evaluate(
    model: SurnameClassifier, split: SplitArrays, criterion: SoftmaxCrossEntropy,
    factors: Sequence[float] = (),
) -> Evaluation:  # fmt: skip
    """Loss and predictions of every row of a split, and its outcomes with each of ``factors``.

    The loss is the sum of weighted losses over the sum of weights, of all rows at once and not a
    mean of the batches' means. The weights are those of the rows, if the split has any, else those
    of ``criterion``.
    """
    outcomes = tuple(Outcomes.of_rows(len(split)) for _ in factors)

    def note(rows: NDArray[np.int64], logits: NDArray[Any]) -> None:
        for found, factor in zip(outcomes, factors, strict=True):
            found.put(rows, factor * logits.astype(np.float64), split.targets[rows])

    sums, predictions = partial_sums(model, split, criterion, note=note)
    found = evaluation_of(split, model.config.num_classes, sums, predictions)
    return replace(found, outcomes=outcomes)


@in_one_blas_thread
def partial_sums(
    model: SurnameClassifier,
    split: SplitArrays,
    criterion: SoftmaxCrossEntropy,
    rank: int = 0,
    size: int = 1,
    note: Callable[[NDArray[np.int64], NDArray[Any]], None] = lambda rows, logits: None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What one of ``size`` ranks adds to an evaluation: every ``size``-th batch, from ``rank`` on.

    ``(batches, 2)``, the sums of weighted losses and of weights of each batch, and the predicted
    class of each row; zero where the batch is another rank's. ``note`` is given the rows of each
    batch and their logits, on the host.
    """
    require_split(split, model)
    sums: list[tuple[float, float]] = []
    predictions = np.zeros(len(split), dtype=np.int64)
    for number, batch in enumerate(by_length(split, model.backend)):
        if number % size != rank:
            sums.append((0.0, 0.0))
            continue
        logits = model.run(**batch.inputs)[0]  # the caches go at once
        if split.weights is None:
            _, found = criterion.run(logits, batch.targets)
            sums.append((float(found.loss_sum), float(found.weight_sum)))
        else:
            weights, targets = split.weights[batch.rows], split.targets[batch.rows]
            logs = log_softmax(model.backend.to_numpy(logits).astype(np.float64), np)
            losses = -logs[np.arange(len(targets)), targets]
            sums.append((float(weights @ losses), float(weights.sum())))
        predictions[batch.rows] = model.backend.to_numpy(logits.argmax(axis=1))
        note(batch.rows, model.backend.to_numpy(logits))
    return np.array(sums).reshape(-1, 2), predictions


def evaluation_of(
    split: SplitArrays, classes: int, sums: NDArray[np.float64], predictions: NDArray[np.int64]
) -> Evaluation:
    """The evaluation, from the :func:`partial_sums` of all ranks added up."""
    loss_sum = weight_sum = 0.0
    for loss, weight in sums.tolist():
        loss_sum += loss
        weight_sum += weight
    confusion = confusion_matrix(split.targets, predictions, classes)
    return Evaluation(loss_sum / weight_sum, confusion)
