"""The gradient flow of a trained model over a whole split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npnlp.files import write_table
from npnlp.gradients.flow import COLUMNS, GradientFlow, gradient_flow, merge
from npnlp.layers import SoftmaxCrossEntropy
from npnlp.layers.recurrent import RecurrentTrace
from npnlp.models import SurnameClassifier
from npnlp.text import SplitArrays
from npnlp.training.batches import batches
from npnlp.training.evaluate import EVALUATION_BATCH

#: The name of the recurrent layer in ``gradient_flow.csv``.
LAYER = "rnn.l0"


def flow_of(
    model: SurnameClassifier, split: SplitArrays, criterion: SoftmaxCrossEntropy
) -> GradientFlow:
    """Gradient flow of the mean loss over all rows of ``split``, dropout off.

    Adds the gradient of that loss into ``model.grads``, which it sets to zero first.
    """
    flows: list[GradientFlow] = []

    def keep(trace: RecurrentTrace) -> None:
        flows.append(gradient_flow(model.rnn, trace))

    model.zero_grads()
    order = np.argsort(split.lengths, kind="stable")
    for batch in batches(split, order, EVALUATION_BATCH, model.backend):
        logits, cache = model.forward(**batch.inputs)
        _, loss = criterion.forward(logits, batch.targets)
        share = len(batch.rows) / len(split)
        model.backward(criterion.backward(share, loss), cache, keep)
    return merge(flows)


def write_flow(path: str | Path, flow: NDArray[np.float64]) -> None:
    """Write ``gradient_flow.csv`` from rows of an epoch and :data:`COLUMNS`."""
    rows = [[int(epoch), LAYER, int(lag), *rest] for epoch, lag, *rest in flow.tolist()]
    write_table(path, ["epoch", "layer", *COLUMNS], rows)
