"""What training notes: numbers of every batch, their means, and the gradient flow of some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array
from npnlp.classifier.flow import flow_rows, layer_of
from npnlp.gradients.flow import gradient_flow
from npnlp.training.clipping import clipped
from npnlp.training.objective import Outcome

#: What is noted of every batch, before the squared gradient norm of each parameter.
LOGGED = ("loss_sum", "weight_sum", "correct", "grad_norm")
#: The gradient flow of at most this many epochs is kept, and that of the last one.
KEPT_EPOCHS = 256


def note_batch(row: Array, found: Outcome, norm: Array, squares: Array) -> None:
    """Fill the ``row`` of a batch; on a device nothing is waited for."""
    row[0] = found.loss_sum
    row[1] = found.weight_sum
    row[2] = found.correct
    row[3] = norm
    row[len(LOGGED) :] = squares


def means_of(
    log: NDArray[np.float64], parameters: Sequence[str], rows: int, max_norm: float | None
) -> dict[str, float]:
    """The means over an epoch's batches ``log (batches, columns)``, of ``rows`` rows in all."""
    loss_sum, weight_sum, correct, _ = log[:, : len(LOGGED)].sum(axis=0)
    norms = log[:, 3]
    return {
        "train_loss": float(loss_sum / weight_sum),
        "train_accuracy": float(correct / rows),
        "grad_norm": float(norms.mean()),
        "grad_norm_clipped": float(clipped(norms, max_norm).mean()),
        "grad_norm_max": float(norms.max()),
        **{
            f"grad_norm.{name}": float(np.sqrt(log[:, column]).mean())
            for column, name in enumerate(parameters, start=len(LOGGED))
        },
    }


def add_flow(
    flow: NDArray[np.float64], traces: Sequence[Any], layers: Sequence[str], epoch: int
) -> NDArray[np.float64]:
    """``flow`` with what the ``traces`` of a backward pass show, the last layer's first."""
    return thinned(np.concatenate([flow, rows_of(traces, layers, epoch)]), epoch)


def rows_of(traces: Sequence[Any], layers: Sequence[str], epoch: int) -> NDArray[np.float64]:
    """The rows that :func:`add_flow` adds."""
    flows = {layer_of(trace): gradient_flow(trace) for trace in reversed(traces)}
    return flow_rows(flows, layers, epoch)


def thinned(rows: NDArray[np.float64], epoch: int) -> NDArray[np.float64]:
    """The rows that are kept once ``epoch`` is done: a long run keeps those of fewer epochs.

    Up to ``KEPT_EPOCHS`` epochs all are, up to twice as many every other one, and so on; and those
    of ``epoch``.
    """
    stride = 1 << (epoch // KEPT_EPOCHS).bit_length()
    if stride == 1:
        return rows
    few: NDArray[np.float64] = rows[(rows[:, 0] % stride == 0) | (rows[:, 0] == epoch)]
    return few
