"""Recurrent layers as one operator each, which is given the lengths as ``sequence_lens``.

It stops each sequence at its last step, and reverses it within its length, so that onnxruntime
computes nothing past the end of a sequence. Other runtimes ignore the lengths, the direction or the
activations, so :mod:`npnlp.exchange.onnx_recurrent` is what is written unless this is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.exchange.onnx_graph import INT32, Graph
from npnlp.exchange.onnx_recurrent import OPERATORS, layer_weights
from npnlp.exchange.onnx_sequences import Sequences
from npnlp.models import ClassifierConfig


def recurrent_with_lengths(
    graph: Graph,
    x: str,
    sequences: Sequences,
    config: ClassifierConfig,
    state: Mapping[str, NDArray[Any]],
) -> tuple[str, str]:
    """All states ``(T, B, F)``, 0 past the end, and the last ones ``(B, F)`` of ``x (T, B, D)``."""
    lengths = graph.add("Cast", sequences.lengths, to=INT32)
    last = ""
    for layer in range(config.num_layers):
        suffixes = [f"_l{layer}", f"_l{layer}_reverse"][: config.directions]
        directions = [layer_weights(config, state, suffix) for suffix in suffixes]
        weights = [
            graph.constant(np.concatenate(arrays), f"rnn.{name}_l{layer}")
            for name, arrays in zip("WRB", zip(*directions, strict=True), strict=True)
        ]
        hidden, last, *_ = graph.add(
            OPERATORS[config.cell], x, *weights, lengths,
            outputs=3 if config.cell == "lstm" else 2, **_attributes(config),
        )  # (T, directions, B, H), (directions, B, H)  # fmt: skip
        side_by_side = graph.add("Transpose", hidden, perm=[0, 2, 1, 3])
        x = graph.add("Reshape", side_by_side, graph.integers(0, 0, -1))
    batch_first = graph.add("Transpose", last, perm=[1, 0, 2])
    return x, str(graph.add("Reshape", batch_first, graph.integers(0, -1)))


def _attributes(config: ClassifierConfig) -> dict[str, Any]:
    direction = "bidirectional" if config.bidirectional else "forward"
    attributes: dict[str, Any] = {"hidden_size": config.rnn_hidden_size, "direction": direction}
    if config.cell == "elman":
        attributes["activations"] = [config.nonlinearity.capitalize()] * config.directions
    if config.cell == "gru":
        attributes["linear_before_reset"] = int(config.reset == "after")
    return attributes
