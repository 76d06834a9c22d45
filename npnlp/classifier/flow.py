"""The gradient flow of a model: through each of its recurrent or attention layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.threads import in_one_blas_thread
from npnlp.classifier.batches import by_length
from npnlp.files import write_table
from npnlp.gradients import gates, heads
from npnlp.gradients.flow import COLUMNS, GradientFlow, gradient_flow, merge
from npnlp.layers import SoftmaxCrossEntropy
from npnlp.layers.recurrent.memory import RecurrentTrace
from npnlp.layers.recurrent.stack import RecurrentStack
from npnlp.models import SurnameClassifier
from npnlp.text import SplitArrays

#: Columns of recorded flow: the epoch, the number of the layer, then :data:`COLUMNS`.
WIDTH = 2 + len(COLUMNS)
#: As many, the first ones, are in checkpoints from before the norm of the product was recorded.
FIRST_WIDTH = 12
#: Columns of ``gradient_flow.csv`` with the right names, after the others: ``saturation`` is the
#: mean slope, which falls while units saturate, and ``weight_hh_share`` a norm. The fraction is
#: that norm over the sum of all lags' norms.
RIGHT = ("mean_slope", "weight_hh_grad_norm", "weight_hh_fraction")


def flow_layers(model: SurnameClassifier) -> list[str]:
    """The layers that gradient flow is recorded of, by the names of ``gradient_flow.csv``."""
    rnn = model.encoder.rnn
    if isinstance(rnn, RecurrentStack):
        return [_name(cell.suffix) for cell in rnn.all_cells]
    return [_name(f"_l{number}") for number in range(len(rnn.blocks))]


def layer_of(trace: Any) -> str:
    """The name of the layer that ``trace`` is of."""
    recurrent = isinstance(trace, RecurrentTrace)
    return _name(trace.layer.suffix if recurrent else f"_l{trace.layer}")


def _name(suffix: str) -> str:
    return f"rnn.{suffix[1:]}"


def flow_rows(
    flows: dict[str, GradientFlow], layers: Sequence[str], epoch: int
) -> NDArray[np.float64]:
    """Rows of :data:`WIDTH`: the table of each layer, with the epoch and the layer's number."""
    rows = [np.empty((0, WIDTH))]
    for name, flow in flows.items():
        table = flow.table()
        place = np.broadcast_to([epoch, layers.index(name)], (len(table), 2))
        rows.append(np.hstack([place, table]))
    return np.concatenate(rows)


def flow_of(
    model: SurnameClassifier, split: SplitArrays, criterion: SoftmaxCrossEntropy
) -> dict[str, GradientFlow]:
    """Gradient flow of the mean loss over all rows of ``split``, dropout off, by layer.

    Adds the gradient of that loss into ``model.grads``, which it sets to zero first.
    """
    return flow_and_parts(model, split, criterion)[0]


@in_one_blas_thread
def flow_and_parts(
    model: SurnameClassifier, split: SplitArrays, criterion: SoftmaxCrossEntropy
) -> tuple[dict[str, GradientFlow], list[dict[str, Any]]]:
    """:func:`flow_of`, and from the same pass the flow by gate or by attention head.

    The latter are rows of ``layer``, ``part`` (the gate's name, or the head's number) and the
    columns of :data:`npnlp.gradients.gates.GATE_COLUMNS` or of
    :data:`npnlp.gradients.heads.HEAD_COLUMNS`.
    """
    layers, recurrent = flow_layers(model), bool(model.encoder.cells)
    flows: dict[str, list[GradientFlow]] = {name: [] for name in layers}
    parts: dict[str, list[Any]] = {name: [] for name in layers}

    def show(trace: Any) -> None:
        name, flow = layer_of(trace), gradient_flow(trace)
        flows[name].append(flow)
        part = gates.gate_flow(trace, flow) if recurrent else heads.head_flow(trace)
        parts[name].append(part)

    model.zero_grads()
    for batch in by_length(split, model.backend):
        logits, cache = model.forward(**batch.inputs)
        _, loss = criterion.forward(logits, batch.targets)
        fraction = len(batch.rows) / len(split)
        model.backward(criterion.backward(fraction, loss), cache, show)
    join: Any = gates.merge if recurrent else heads.merge
    rows = [
        {"layer": name, "part": row["gate"] if recurrent else f"head {row['head']}"}
        | {key: value for key, value in row.items() if key not in ("gate", "layer", "head")}
        for name in layers
        for row in join(parts[name]).rows()
    ]
    for row in rows if recurrent else []:
        row["weight_hh_grad_norm"] = row["weight_hh_share"]  # the right name beside the old one
    return {name: merge(of_layer) for name, of_layer in flows.items()}, rows


def write_flow(path: str | Path, flow: NDArray[np.float64], layers: Sequence[str]) -> None:
    """Write ``gradient_flow.csv`` from rows of :data:`WIDTH`, and :data:`RIGHT` beside them."""
    norm, slope = 2 + COLUMNS.index("weight_hh_share"), 2 + COLUMNS.index("saturation")
    totals: dict[tuple[float, float], float] = {}
    given = flow.tolist()
    for row in given:
        totals[row[0], row[1]] = totals.get((row[0], row[1]), 0.0) + row[norm]
    rows = []
    for row in given:
        epoch, number, lag, *rest = row
        right = [row[slope], row[norm], fraction_of(row[norm], totals[epoch, number])]
        rows.append([int(epoch), layers[int(number)], int(lag), *rest, *right])
    write_table(path, ["epoch", "layer", *COLUMNS, *RIGHT], rows)


def fraction_of(part: float, total: float) -> float:
    """``part / total``; 0 where there is nothing to share."""
    return part / total if total else 0.0
