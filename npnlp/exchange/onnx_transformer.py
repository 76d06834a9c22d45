"""The transformer encoder in ONNX's operators; see npnlp/layers/attention/."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.exchange.onnx_graph import Graph
from npnlp.exchange.onnx_sequences import Sequences
from npnlp.layers.attention.transformer import MAX_POSITIONS
from npnlp.models import ClassifierConfig

EPSILON = 1e-5


def transformer(
    graph: Graph,
    x: str,
    sequences: Sequences,
    config: ClassifierConfig,
    state: Mapping[str, NDArray[Any]],
) -> tuple[str, str]:
    """All states ``(T, B, H)`` and the last ones ``(B, H)`` of ``x (T, B, D)``."""
    here = {name.removeprefix("rnn."): array for name, array in state.items()}
    x = graph.add("Transpose", x, perm=[1, 0, 2])
    h = graph.linear(x, here["input.weight"], here["input.bias"], "rnn.input")
    table = graph.constant(here["position.weight"], "rnn.position.weight")
    rows = graph.add("Min", sequences.steps, graph.constant(MAX_POSITIONS - 1))
    positions = graph.add("Gather", table, rows, axis=0)
    h = graph.add("Add", h, positions)
    by_sequence = graph.add("Transpose", sequences.present, perm=[1, 0])
    present = graph.add("Unsqueeze", by_sequence, graph.integers(1, 2))  # (B, 1, 1, T)
    for index in range(config.num_layers):
        h = _block(graph, h, present, config.num_heads, here, f"layers.{index}.")
    hidden = graph.add("Transpose", _norm(graph, h, here, "norm"), perm=[1, 0, 2])
    return hidden, sequences.last(hidden)


def _block(
    graph: Graph,
    h: str,
    present: str,
    heads: int,
    state: Mapping[str, NDArray[Any]],
    prefix: str,
) -> str:
    """See npnlp/layers/attention/transformer_block.py; h is ``(B, T, H)``."""

    def linear(x: str, name: str) -> str:
        weight, bias = state[f"{prefix}{name}.weight"], state[f"{prefix}{name}.bias"]
        return graph.linear(x, weight, bias, f"rnn.{prefix}{name}")

    z = _norm(graph, h, state, f"{prefix}norm1")
    name = f"{prefix}self_attn.in_proj"
    projected = graph.linear(z, state[f"{name}_weight"], state[f"{name}_bias"], f"rnn.{name}")
    size = state[f"{name}_weight"].shape[1] // heads
    a = linear(_attention(graph, projected, present, heads, size), "self_attn.out_proj")
    m = graph.add("Add", h, a)
    f = graph.add("Relu", linear(_norm(graph, m, state, f"{prefix}norm2"), "linear1"))
    return str(graph.add("Add", m, linear(f, "linear2")))


def _attention(graph: Graph, projected: str, present: str, heads: int, size: int) -> str:
    """``(B, T, H)`` of q, k, v side by side ``(B, T, 3 H)``, of ``size`` features a head."""
    parts = []
    for part in graph.add("Split", projected, outputs=3, axis=2):
        apart = graph.add("Reshape", part, graph.integers(0, 0, heads, -1))
        parts.append(graph.add("Transpose", apart, perm=[0, 2, 1, 3]))  # (B, heads, T, d)
    q, k, v = parts
    q = graph.add("Div", q, graph.constant(math.sqrt(size)))
    s = graph.add("MatMul", q, graph.add("Transpose", k, perm=[0, 1, 3, 2]))
    s = graph.add("Where", present, s, graph.constant(-np.inf))
    o = graph.add("MatMul", graph.add("Softmax", s, axis=3), v)
    o = graph.add("Transpose", o, perm=[0, 2, 1, 3])
    return str(graph.add("Reshape", o, graph.integers(0, 0, -1)))


def _norm(graph: Graph, x: str, state: Mapping[str, NDArray[Any]], name: str) -> str:
    weight, bias = (
        graph.constant(state[f"{name}.{part}"], f"rnn.{name}.{part}") for part in ("weight", "bias")
    )
    return str(graph.add("LayerNormalization", x, weight, bias, axis=-1, epsilon=EPSILON))
