"""A model of another framework in pieces, and this project's tensors of it, both ways.

    (1) e = Embedding[token]     (2) h = recurrent layers(e), pooled     (3) logits = linear(h)

(3) is one linear layer, or two with ReLU between them. A kernel of a linear layer is ``(F, H)``,
and this project's weight, as PyTorch's, ``(H, F)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from npnlp.errors import InputError
from npnlp.exchange.frameworks.cells import TENSORS, Array, CellRow, from_torch, to_torch
from npnlp.exchange.frameworks.table import row_for
from npnlp.models import ClassifierConfig
from npnlp.summary import summarized

#: Fields of a configuration that a file may say, and those that only training uses.
SAYS = ("nonlinearity", "reset", "pooling")
TRAINS = ("dropout", "embedding_dropout", "char_dropout", "rnn_dropout", "variational",
          "forget_bias")  # fmt: skip

State = dict[str, Array]
Arrays = dict[str, Array]
SUFFIXES = ("", "_reverse")
#: The names of one linear layer, and of two.
LINEAR = {1: ("fc2",), 2: ("fc1", "fc2")}


@summarized
@dataclass(frozen=True)
class Parts:
    """``embedding (V, D)``; the arrays of each layer and direction, by the names of ``row``; and
    ``(kernel (F, H), bias (H,))`` of each linear layer."""

    row: CellRow
    embedding: Array
    layers: list[list[Arrays]]
    linear: list[tuple[Array, Array]]


@summarized
@dataclass(frozen=True)
class Found:
    """What a file holds: tensors under this project's names, and what it ``says`` of the model.

    ``says`` are fields of the configuration, ``trains`` those that only training uses.
    ``vectorizer`` is the content of a vectorizer's file, where there is one; ``notes`` are for
    people.
    """

    state: State
    says: dict[str, Any] = field(default_factory=dict)
    trains: dict[str, Any] = field(default_factory=dict)
    vectorizer: Any = None
    notes: list[str] = field(default_factory=list)


def state_of(parts: Parts, names: list[str]) -> State:
    """The tensors; ``names`` are those of the recurrent layers in the file, for errors.

    Raises :class:`InputError` for arrays that do not fit each other.
    """
    state = {"emb.weight": parts.embedding}
    features = parts.embedding.shape[-1]
    for number, (layer, where) in enumerate(zip(parts.layers, names, strict=True)):
        for suffix, arrays in zip(SUFFIXES, layer, strict=False):
            cell = to_torch(parts.row, arrays, where)
            if cell["weight_ih"].shape[1] != features:
                raise InputError(
                    f"{where} takes {cell['weight_ih'].shape[1]} features, and what is before it "
                    f"gives {features}"
                )
            for tensor, value in cell.items():
                state[f"rnn.{tensor}_l{number}{suffix}"] = value
        hidden = cell["weight_hh"].shape[1]
        features = len(layer) * hidden
        if hidden != state["rnn.weight_hh_l0"].shape[1]:
            raise InputError(
                f"{where} has {hidden} units and the first layer "
                f"{state['rnn.weight_hh_l0'].shape[1]}; a model here has one size"
            )
    if len(parts.linear) == 2 and parts.linear[0][0].shape[-1] != hidden:
        raise InputError(
            f"the hidden linear layer has {parts.linear[0][0].shape[-1]} units and the cell "
            f"{hidden}; a model here has as many in both"
        )
    for name, (kernel, bias) in zip(LINEAR[len(parts.linear)], parts.linear, strict=True):
        state[f"{name}.weight"], state[f"{name}.bias"] = kernel.T, bias
    return state


def parts_of(state: State, config: ClassifierConfig, framework: str) -> Parts:
    """Undo :func:`state_of`, for a framework of the table.

    Raises :class:`InputError` for a model that it has no place for.
    """
    row = row_for(framework, config.cell, config.reset)
    if row is None:
        what = f"gru with reset {config.reset}" if config.cell == "gru" else config.cell
        raise InputError(f"{framework} has no cell for {what}; the formats pytorch and onnx have")
    if config.ngram_orders or "attention" in config.poolings:
        what = "n-grams" if config.ngram_orders else "pooling attention"
        raise InputError(f"{framework} has no layer for {what}; the formats pytorch and onnx have")
    layers = []
    for number in range(config.num_layers):
        directions = []
        for suffix in SUFFIXES[: config.directions]:
            end = f"_l{number}{suffix}"
            cell = {tensor: state[f"rnn.{tensor}{end}"] for tensor in TENSORS}
            directions.append(from_torch(row, cell, f"rnn{end}"))
        layers.append(directions)
    linear = [
        (state[f"{name}.weight"].T, state[f"{name}.bias"])
        for name in LINEAR[1 + config.hidden_layer]
    ]
    return Parts(row, state["emb.weight"], layers, linear)
