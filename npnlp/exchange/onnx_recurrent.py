"""Recurrent layers as the ONNX operators RNN, GRU and LSTM.

Their weights are this project's in another order: W ``(directions, G H, D)``, R ``(directions, G H,
H)`` and B ``(directions, 2 G H)``, the biases of the input before those of the state.

    gates of     here           ONNX
    GRU          r, z, n        z, r, h      linear_before_reset=1 is the reset after the product
    LSTM         i, f, g, o     i, o, f, c   g is c

The operators get the lengths as ``sequence_lens``: they stop each sequence at its last step, and
reverse it within its length. Source: the ONNX operators' specification, opset 14.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.exchange.onnx_graph import INT32, Graph
from npnlp.models import ClassifierConfig

OPERATORS = {"elman": "RNN", "gru": "GRU", "lstm": "LSTM"}
#: For each gate of ONNX, in its order, the place of our block of H rows.
ORDERS = {"elman": (0,), "gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}


def recurrent(
    graph: Graph, x: str, lengths: str, config: ClassifierConfig, state: Mapping[str, NDArray[Any]]
) -> tuple[str, str]:
    """All states ``(T, B, F)``, 0 past the end, and the last ones ``(B, F)`` of ``x (T, B, D)``."""
    lengths = graph.add("Cast", lengths, to=INT32)
    outputs = 3 if config.cell == "lstm" else 2
    last = ""
    for layer in range(config.num_layers):
        weights = [
            graph.constant(array, f"rnn.{name}_l{layer}")
            for name, array in zip("WRB", layer_weights(config, state, layer), strict=True)
        ]
        hidden, last, *_ = graph.add(
            OPERATORS[config.cell], x, *weights, lengths, outputs=outputs, **_attributes(config)
        )  # (T, directions, B, H), (directions, B, H)
        side_by_side = graph.add("Transpose", hidden, perm=[0, 2, 1, 3])
        x = graph.add("Reshape", side_by_side, graph.integers(0, 0, -1))
    batch_first = graph.add("Transpose", last, perm=[1, 0, 2])
    return x, graph.add("Reshape", batch_first, graph.integers(0, -1))


def layer_weights(
    config: ClassifierConfig, state: Mapping[str, NDArray[Any]], layer: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """W, R and B of one layer, both directions, in ONNX's order."""
    suffixes = [f"_l{layer}", f"_l{layer}_reverse"][: config.directions]

    def stacked(name: str) -> NDArray[Any]:
        return np.stack([reordered(state[f"rnn.{name}{s}"], config.cell) for s in suffixes])

    biases = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1)
    return stacked("weight_ih"), stacked("weight_hh"), biases


def reordered(weight: NDArray[Any], cell: str) -> NDArray[Any]:
    """The blocks of rows in ONNX's order."""
    order = ORDERS[cell]
    blocks = np.split(weight, len(order))
    return np.concatenate([blocks[place] for place in order])


def _attributes(config: ClassifierConfig) -> dict[str, Any]:
    direction = "bidirectional" if config.bidirectional else "forward"
    attributes: dict[str, Any] = {"hidden_size": config.rnn_hidden_size, "direction": direction}
    if config.cell == "elman":
        attributes["activations"] = [config.nonlinearity.capitalize()] * config.directions
    if config.cell == "gru":
        attributes["linear_before_reset"] = int(config.reset == "after")
    return attributes
