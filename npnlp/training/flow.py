"""The gradient flow of a model: through each of its recurrent or attention layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.files import write_table
from npnlp.gradients import gates, heads
from npnlp.gradients.flow import COLUMNS, GradientFlow, gradient_flow, merge
from npnlp.layers import SoftmaxCrossEntropy
from npnlp.layers.memory import RecurrentTrace
from npnlp.layers.stack import RecurrentStack
from npnlp.models import SurnameClassifier
from npnlp.text import SplitArrays
from npnlp.training.batches import batches
from npnlp.training.evaluate import EVALUATION_BATCH

#: Columns of flow that is kept: the epoch, the number of the layer, then :data:`COLUMNS`.
WIDTH = 2 + len(COLUMNS)


def flow_layers(model: SurnameClassifier) -> list[str]:
    """The layers that gradient flow is kept of, by the names of ``gradient_flow.csv``."""
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
    flows: dict[str, list[GradientFlow]] = {name: [] for name in flow_layers(model)}
    _backpropagate(
        model, split, criterion, lambda trace: flows[layer_of(trace)].append(gradient_flow(trace))
    )
    return {name: merge(of_layer) for name, of_layer in flows.items()}


def parts_of(
    model: SurnameClassifier, split: SplitArrays, criterion: SoftmaxCrossEntropy
) -> list[dict[str, Any]]:
    """The same by gate of every recurrent layer, or by head of every attention layer.

    Rows of ``layer``, ``part`` (the gate's name, or the head's number) and the columns of
    :data:`npnlp.gradients.gates.GATE_COLUMNS` or :data:`npnlp.gradients.heads.HEAD_COLUMNS`.
    """
    found: dict[str, list[Any]] = {name: [] for name in flow_layers(model)}
    recurrent = bool(model.encoder.cells)
    read: Any = gates.gate_flow if recurrent else heads.head_flow
    join: Any = gates.merge if recurrent else heads.merge
    _backpropagate(
        model, split, criterion, lambda trace: found[layer_of(trace)].append(read(trace))
    )
    return [
        {"layer": name, "part": row["gate"] if recurrent else f"head {row['head']}"}
        | {key: value for key, value in row.items() if key not in ("gate", "layer", "head")}
        for name in flow_layers(model)
        for row in join(found[name]).rows()
    ]


def _backpropagate(
    model: SurnameClassifier,
    split: SplitArrays,
    criterion: SoftmaxCrossEntropy,
    keep: Callable[[Any], None],
) -> None:
    """The gradient of the mean loss over ``split``; ``keep`` is shown every layer."""
    model.zero_grads()
    order = np.argsort(split.lengths, kind="stable")
    for batch in batches(split, order, EVALUATION_BATCH, model.backend):
        logits, cache = model.forward(**batch.inputs)
        _, loss = criterion.forward(logits, batch.targets)
        share = len(batch.rows) / len(split)
        model.backward(criterion.backward(share, loss), cache, keep)


def write_flow(path: str | Path, flow: NDArray[np.float64], layers: Sequence[str]) -> None:
    """Write ``gradient_flow.csv`` from rows of :data:`WIDTH`."""
    rows = [
        [int(epoch), layers[int(number)], int(lag), *rest]
        for epoch, number, lag, *rest in flow.tolist()
    ]
    write_table(path, ["epoch", "layer", *COLUMNS], rows)
