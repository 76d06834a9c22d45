"""Cells that ONNX's own operators have only as attributes, written out step by step.

Some runtimes read an RNN with ReLU as one with tanh, or a GRU with the reset before the product as
one with the reset after it, and say nothing. In the operator ``Scan`` there is nothing to
misread: it is computed as it stands, or refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from npnlp.exchange.onnx_graph import Graph
from npnlp.exchange.onnx_sequences import Sequences
from npnlp.models import ClassifierConfig


def scanned(config: ClassifierConfig) -> bool:
    """Whether the cell of a configuration is written out."""
    relu = config.cell == "elman" and config.nonlinearity == "relu"
    return relu or (config.cell == "gru" and config.reset == "before")


def states(
    graph: Graph,
    x: str,
    sequences: Sequences,
    suffix: str,
    config: ClassifierConfig,
    state: Mapping[str, NDArray[Any]],
) -> str:
    """All states ``(T, B, H)`` of one layer in one direction, from zeros."""
    w_ih, w_hh, b_ih, b_hh = (
        state[f"rnn.{name}{suffix}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    size = config.rnn_hidden_size

    def relu(body: Graph, u: str, h: str) -> str:
        """By comparison: OpenVINO 2026.4 computes a Scan that ends in Relu wrongly."""
        a = body.add("Add", u, body.linear(h, w_hh, b_hh, "hh"))
        nothing = body.constant(0.0)
        return str(body.add("Where", body.add("Greater", a, nothing), a, nothing))

    def reset_before(body: Graph, u: str, h: str) -> str:
        """See :class:`npnlp.layers.recurrent.gru.GRUResetBefore`."""
        rest = 2 * size
        u_rz, u_n = body.add("Split", u, body.integers(rest, size), outputs=2, axis=1)
        p_rz = body.linear(h, w_hh[:rest], b_hh[:rest], "gates")
        gates = body.add("Sigmoid", body.add("Add", u_rz, p_rz))
        r, z = body.add("Split", gates, body.integers(size, size), outputs=2, axis=1)
        p_n = body.linear(body.add("Mul", r, h), w_hh[rest:], b_hh[rest:], "new")
        n = body.add("Tanh", body.add("Add", u_n, p_n))
        return str(body.add("Add", n, body.add("Mul", z, body.add("Sub", h, n))))

    u = graph.linear(x, w_ih, b_ih, f"rnn.ih{suffix}")
    step = relu if config.cell == "elman" else reset_before
    return graph.scan(u, sequences.zeros(size), step, size, f"rnn.scan{suffix}")
