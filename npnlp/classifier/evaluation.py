"""Running a model over a whole split: every row, dropout off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npnlp.classifier.batches import batches
from npnlp.classifier.metrics import confusion_matrix, scores
from npnlp.layers import SoftmaxCrossEntropy
from npnlp.models import SurnameClassifier
from npnlp.summary import summarized
from npnlp.text import SplitArrays
from npnlp.training.distributed.shared import ALONE, Alone

EVALUATION_BATCH = 512


@summarized
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
    model: SurnameClassifier,
    split: SplitArrays,
    criterion: SoftmaxCrossEntropy,
    ranks: Alone = ALONE,
) -> Evaluation:
    """Loss and predictions of every row of a split.

    The loss is the sum of weighted losses over the sum of weights, of all rows at once and not a
    mean of the batches' means. Rows are taken by length, so that a batch has little packing to do.
    ``ranks`` share the batches, and each has the whole result.
    """
    backend = model.backend
    order = np.argsort(split.lengths, kind="stable")
    sums = np.zeros((-(-len(order) // EVALUATION_BATCH), 2))
    predictions = np.zeros(len(split), dtype=np.int64)
    for number, batch in enumerate(batches(split, order, EVALUATION_BATCH, backend)):
        if number % ranks.size != ranks.rank:
            continue
        logits, _ = model.forward(**batch.inputs)
        _, found = criterion.forward(logits, batch.targets)
        sums[number] = float(found.loss_sum), float(found.weight_sum)
        predictions[batch.rows] = backend.to_numpy(logits.argmax(axis=1))
    sums, predictions = ranks.together(sums, predictions)
    loss_sum = weight_sum = 0.0
    for loss, weight in sums.tolist():
        loss_sum += loss
        weight_sum += weight
    confusion = confusion_matrix(split.targets, predictions, model.config.num_classes)
    return Evaluation(loss_sum / weight_sum, confusion)
