"""What the layers of a Keras model are here: an embedding, one kind of cell, a pooling, one or two
linear layers. Anything else is refused, by the layer and the field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from npnlp.errors import InputError
from npnlp.exchange.frameworks.cells import CellRow
from npnlp.exchange.frameworks.keras_config import Layer, inner
from npnlp.exchange.frameworks.table import (
    KERAS_GRU_AFTER,
    KERAS_GRU_BEFORE,
    KERAS_LSTM,
    KERAS_RNN,
)

CELL_KINDS = ("SimpleRNN", "GRU", "LSTM", "Bidirectional")
POOLINGS = {"GlobalAveragePooling1D": "mean", "GlobalMaxPooling1D": "max"}
WAYS = ("forward_layer", "backward_layer")
UNMASKED = "without mask_zero: Keras reads the padding of shorter names too, and this model none"
ZEROED = "this Keras model sets padded steps to zero, which its maximum over time sees"


@dataclass
class Plan:
    """Where the weights of each part are, and the fields of a configuration that layers say.

    ``cells`` are paths, those of both directions together; ``linear`` the paths of Dense layers.
    """

    embedding: str = ""
    row: CellRow = KERAS_RNN
    cells: list[list[str]] = field(default_factory=list)
    linear: list[str] = field(default_factory=list)
    says: dict[str, Any] = field(default_factory=dict)
    trains: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def plan_of(layers: list[Layer]) -> Plan:
    """The plan; raises :class:`InputError` naming the layer that does not fit in its place."""
    plan, left = Plan(), [each for each in layers if each.kind != "InputLayer"]
    if not left or left[0].kind != "Embedding":
        raise InputError("the first layer is no Embedding; a model here begins with one")
    _embedding(left.pop(0), plan)
    _drop(left)
    recurrent = []
    while left and left[0].kind in CELL_KINDS:
        plan.trains.clear()  # what is dropped between recurrent layers
        recurrent.append(left.pop(0))
        _drop(left, plan)
    if not recurrent:
        what = left[0].kind if left else "nothing"
        raise InputError(f"after the Embedding comes {what}, not SimpleRNN, GRU, LSTM or "
                         "Bidirectional")  # fmt: skip
    _recurrent(recurrent, plan)
    pooling = left.pop(0) if left and left[0].kind in POOLINGS else None
    _pooling(recurrent[-1], pooling, plan)
    _head(left, plan)
    return plan


def _embedding(layer: Layer, plan: Plan) -> None:
    plan.embedding = layer.path
    layer.require(mask_zero=(True, False))
    if not layer.fields.get("mask_zero"):
        plan.notes.append(UNMASKED)


def _drop(left: list[Layer], plan: Plan | None = None) -> None:
    """Take dropout away, which predicting does not have; that before linear layers is noted."""
    while left and left[0].kind in ("Dropout", "SpatialDropout1D"):
        layer = left.pop(0)
        rate = layer.fields.get("rate") if layer.kind == "Dropout" else None
        if plan is not None and isinstance(rate, int | float) and 0 <= rate < 1:
            plan.trains["dropout"] = float(rate)


def _recurrent(layers: list[Layer], plan: Plan) -> None:
    rows, nonlinearities, directions = set(), set(), set()
    for number, layer in enumerate(layers):
        cells, paths = [layer], [f"{layer.path}/cell"]
        if layer.kind == "Bidirectional":
            layer.require(merge_mode=("concat",))
            cells = [inner(layer, "layer"), inner(layer, "backward_layer")]
            paths = [f"{layer.path}/{way}/cell" for way in WAYS]
        for backward, cell in enumerate(cells):
            last = number == len(layers) - 1
            rows.add(_row(cell, bool(backward), None if last else True))
            nonlinearities.add(cell.fields.get("activation", "tanh"))
            if cell.fields.get("return_sequences") != cells[0].fields.get("return_sequences"):
                raise layer.refuse("one direction returns sequences and the other does not")
        directions.add(len(cells))
        plan.cells.append(paths)
    if len(rows) > 1 or len(directions) > 1 or len(nonlinearities) > 1:
        raise InputError("recurrent layers of several kinds; all layers of a model here have one "
                         "cell, one activation and the same directions")  # fmt: skip
    plan.row = rows.pop()
    if plan.row.reset:
        plan.says["reset"] = plan.row.reset
    if plan.row is KERAS_RNN:
        plan.says["nonlinearity"] = nonlinearities.pop()


def _row(cell: Layer, backward: bool, sequences: bool | None) -> CellRow:
    """The row of the table for a cell; ``sequences`` is what it has to return, None is either."""
    if cell.kind not in CELL_KINDS[:3]:
        raise cell.refuse("not SimpleRNN, GRU or LSTM, inside of Bidirectional")
    cell.require(
        go_backwards=(backward,), return_state=(False,), stateful=(False,), use_bias=(True, False),
        activation=("tanh", "relu") if cell.kind == "SimpleRNN" else ("tanh",),
        return_sequences=(False, True) if sequences is None else (sequences,),
    )  # fmt: skip
    if cell.kind == "SimpleRNN":
        return KERAS_RNN
    cell.require(recurrent_activation=("sigmoid",), reset_after=(True, False))
    if cell.kind == "LSTM":
        return KERAS_LSTM
    return KERAS_GRU_AFTER if cell.fields.get("reset_after", True) else KERAS_GRU_BEFORE


def _pooling(last: Layer, pooling: Layer | None, plan: Plan) -> None:
    cell = inner(last, "layer") if last.kind == "Bidirectional" else last
    sequences = cell.fields.get("return_sequences", False)
    if pooling is None:
        if sequences:
            raise last.refuse("it returns sequences, and no pooling over time follows; a model "
                              "here gives one answer a text")  # fmt: skip
        plan.says["pooling"] = "last"
        return
    if not sequences:
        raise pooling.refuse("the layer before returns the last state only")
    pooling.require(data_format=("channels_last",), keepdims=(False,))
    plan.says["pooling"] = POOLINGS[pooling.kind]
    zeros = last.kind == "Bidirectional" or cell.fields.get("zero_output_for_mask")
    if plan.says["pooling"] == "max" and zeros:
        plan.notes.append(ZEROED)


def _head(left: list[Layer], plan: Plan) -> None:
    """Dropout, Dense and ReLU, dropout, Dense, and softmax or not."""
    dense: list[tuple[Layer, str]] = []
    _drop(left, plan)
    while left and left[0].kind == "Dense":
        layer = left.pop(0)
        layer.require(activation=("linear", "relu", "softmax"), use_bias=(True, False))
        activation = layer.fields.get("activation", "linear")
        if activation == "linear" and left and left[0].kind in ("ReLU", "Softmax", "Activation"):
            activation = _activation(left.pop(0))
        dense.append((layer, activation))
        _drop(left, plan)
    if left:
        raise left[0].refuse("not where a model here has a layer of this kind")
    if not 1 <= len(dense) <= 2:
        raise InputError(f"{len(dense)} Dense layers at the end; a model here has one or two")
    for layer, activation in dense[:-1]:
        if activation != "relu":
            raise layer.refuse(
                f"activation {activation}; the hidden layer of a model here has relu"
            )
    if dense[-1][1] == "relu":
        raise dense[-1][0].refuse("activation relu; the last layer of a model here is linear, or "
                                  "softmax")  # fmt: skip
    plan.linear = [layer.path for layer, _ in dense]


def _activation(layer: Layer) -> str:
    if layer.kind == "Activation":
        layer.require(activation=("linear", "relu", "softmax"))
        return str(layer.fields.get("activation", "linear"))
    if layer.kind == "ReLU":
        for name in ("max_value", "negative_slope", "threshold"):
            if layer.fields.get(name) not in (None, 0, 0.0):
                raise layer.refuse(f"{name} is not its default")
        return "relu"
    layer.require(axis=(-1,))
    return "softmax"
