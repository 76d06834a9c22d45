"""The gradient flow of one batch, made from its weights: for who did not see its backward pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Random
from npnlp.classifier.batches import batches
from npnlp.summary import summarized
from npnlp.training.recorder import rows_of
from npnlp.training.trainer import Trainer


@summarized
class FlowJob(NamedTuple):
    """A batch whose gradient flow is wanted: the weights before it, its rows, the stream of its
    masks, and its epoch.
    """

    values: NDArray[Any]
    rows: NDArray[np.int64]
    random: Random
    epoch: int


def flow_of(trainer: Trainer, job: FlowJob) -> NDArray[np.float64]:
    """The rows of the gradient flow of a batch; ``trainer`` has its weights afterwards."""
    model, traces = trainer.model, list[Any]()
    model.flat.values[...] = job.values
    batch = next(batches(trainer.train, job.rows, len(job.rows), model.backend))
    trainer.objective(model, batch, job.random, traces.append)
    return rows_of(traces, trainer.flow_layers, job.epoch)
