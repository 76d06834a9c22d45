"""Recurrent layers as the ONNX operators RNN, GRU and LSTM.

Their weights are this project's in another order: W ``(1, G H, D)``, R ``(1, G H, H)`` and B
``(1, 2 G H)``, the biases of the input before those of the state.

    gates of     here           ONNX
    GRU          r, z, n        z, r, h      linear_before_reset=1, the reset after the product
    LSTM         i, f, g, o     i, o, f, c   g is c

Each node reads in one direction and knows no lengths: what it computes past the end of a sequence
is never read, and a layer that reads from the end gets each sequence turned around within its
length. The operators' own ``sequence_lens`` and ``direction`` are ignored or refused by many
runtimes.

Source: the ONNX operators' specification, opset 14.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.exchange.onnx_graph import Graph
from npnlp.exchange.onnx_scan import scanned, states
from npnlp.exchange.onnx_sequences import Sequences
from npnlp.models import ClassifierConfig

OPERATORS = {"elman": "RNN", "gru": "GRU", "lstm": "LSTM"}
#: For each gate of ONNX, in its order, the place of our block of H rows.
ORDERS = {"elman": (0,), "gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}


def recurrent(
    graph: Graph,
    x: str,
    sequences: Sequences,
    config: ClassifierConfig,
    state: Mapping[str, NDArray[Any]],
) -> tuple[str, str]:
    """All states ``(T, B, F)`` and the last ones ``(B, F)`` of ``x (T, B, D)``."""
    last = ""
    for layer in range(config.num_layers):
        every, lasts = [], []
        for suffix in ("", "_reverse")[: config.directions]:
            own, name = sequences.reverse(x) if suffix else x, f"_l{layer}{suffix}"
            if scanned(config):
                hidden = states(graph, own, sequences, name, config, state)
            else:
                hidden = _states(graph, own, name, config, state)
            lasts.append(sequences.last(hidden))
            every.append(sequences.reverse(hidden) if suffix else hidden)
        x, last = graph.beside(every, axis=2), graph.beside(lasts, axis=1)
    return x, last


def _states(
    graph: Graph, x: str, suffix: str, config: ClassifierConfig, state: Mapping[str, NDArray[Any]]
) -> str:
    """All states ``(T, B, H)`` of one layer in one direction."""
    weights = [
        graph.constant(array, f"rnn.{name}{suffix}")
        for name, array in zip("WRB", layer_weights(config, state, suffix), strict=True)
    ]
    hidden = graph.add(OPERATORS[config.cell], x, *weights, **_attributes(config))
    return str(graph.add("Squeeze", hidden, graph.integers(1)))  # of (T, 1, B, H)


def layer_weights(
    config: ClassifierConfig, state: Mapping[str, NDArray[Any]], suffix: str
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """W, R and B of one layer in one direction, in ONNX's order."""
    w_ih, w_hh, b_ih, b_hh = (
        reordered(state[f"rnn.{name}{suffix}"], config.cell)[None]
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    return w_ih, w_hh, np.concatenate([b_ih, b_hh], axis=1)


def reordered(weight: NDArray[Any], cell: str) -> NDArray[Any]:
    """The blocks of rows in ONNX's order."""
    order = ORDERS[cell]
    blocks = np.split(weight, len(order))
    return np.concatenate([blocks[place] for place in order])


def _attributes(config: ClassifierConfig) -> dict[str, Any]:
    attributes: dict[str, Any] = {"hidden_size": config.rnn_hidden_size}
    if config.cell == "gru":
        attributes["linear_before_reset"] = 1
    return attributes
