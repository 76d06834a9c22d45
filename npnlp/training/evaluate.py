"""Running a model over a whole split: every row, dropout off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npnlp.layers import SoftmaxCrossEntropy
from npnlp.models import SurnameClassifier
from npnlp.text import SplitArrays
from npnlp.training.batches import batches
from npnlp.training.metrics import confusion_matrix, scores

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Evaluation:
    """``loss``, the (weighted) mean over all rows, and the confusion matrix ``(C, C)``."""

    loss: float
    confusion: NDArray[np.int64]

    @property
    def metrics(self) -> dict[str, float]:
        """Loss and scores, by the names of ``metrics.json``."""
        return {"loss": self.loss, **scores(self.confusion)}


def evaluate(
    model: SurnameClassifier, split: SplitArrays, criterion: SoftmaxCrossEntropy
) -> Evaluation:
    """Loss and predictions of every row of a split.

    The loss is the sum of weighted losses over the sum of weights, of all rows at once and not a
    mean of the batches' means. Rows are taken by length, so that a batch has little packing to do.
    """
    backend = model.backend
    loss_sum = weight_sum = 0.0
    predictions = np.empty(len(split), dtype=np.int64)
    order = np.argsort(split.lengths, kind="stable")
    for batch in batches(split, order, EVALUATION_BATCH, backend):
        logits, _ = model.forward(**batch.inputs)
        _, sums = criterion.forward(logits, batch.targets)
        loss_sum += float(sums.loss_sum)
        weight_sum += float(sums.weight_sum)
        predictions[batch.rows] = backend.to_numpy(logits.argmax(axis=1))
    confusion = confusion_matrix(split.targets, predictions, model.config.num_classes)
    return Evaluation(loss_sum / weight_sum, confusion)
