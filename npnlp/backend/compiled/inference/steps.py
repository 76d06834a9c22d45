"""A step of each cell for the nodes of a prefix tree, compiled.

The equations are those of ``layers/recurrent/elman.py``, ``gru.py`` and ``lstm.py``. ``u`` is the
projected input, a row for each token, and ``q`` is ``W_hh h``, a row for each parent node.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from npnlp.backend.base import Array
from npnlp.backend.compiled.loops import gru, lstm
from npnlp.backend.compiled.vectors.elementwise import relu_of, tanh_of
from npnlp.backend.compiled.vectors.kernel import inner
from npnlp.backend.compiled.vectors.vectors import Number, picked


class Nodes(NamedTuple):
    """The nodes ``first`` to ``last`` of a depth, whose states go to rows ``target``.

    ``tokens`` are rows of u, ``parents`` rows of q and of the states before, ``zeros`` of a bias.
    """

    tokens: Array
    parents: Array
    target: Array
    zeros: Array
    first: int
    last: int


@picked
def tanh_step(u: Number, q: Number) -> tuple[Number, ...]:
    """``h = tanh(u + q)``."""
    return (tanh_of(u + q),)


@picked
def relu_step(u: Number, q: Number) -> tuple[Number, ...]:
    """``h = max(u + q, 0)``."""
    return (relu_of(u + q),)


@picked
def gru_step(
    u_r: Number, u_z: Number, u_n: Number, q_r: Number, q_z: Number, q_n: Number, b_n: Number,
    h_before: Number,
) -> tuple[Number, ...]:  # fmt: skip
    """``h``; ``b_n`` is the bias of ``q_n``."""
    *_, h = gru.step(u_r + q_r, u_z + q_z, u_n, q_n + b_n, h_before)
    return (h,)


@picked
def lstm_step(
    u_i: Number, u_f: Number, u_g: Number, u_o: Number, q_i: Number, q_f: Number, q_g: Number,
    q_o: Number, c_before: Number,
) -> tuple[Number, ...]:  # fmt: skip
    """``h`` and ``c``."""
    *_, c, _, h = lstm.step(u_i + q_i, u_f + q_f, u_g + q_g, u_o + q_o, c_before)
    return h, c


@inner
def tanh_steps(at: Nodes, u: Array, q: Array, bias: Array, before: Array, found: Any) -> None:
    """Fill ``found``, the states h (and c) of the nodes, each ``(TREE, H)``.

    Shapes: ``u (G, V, H)``, ``q (G, TREE, H)``, ``bias (1, H)``, ``before (S, TREE, H)``.
    """
    tanh_step((u[0], q[0]), (at.tokens, at.parents), found[:1], at.target, at.first, at.last)


@inner
def relu_steps(at: Nodes, u: Array, q: Array, bias: Array, before: Array, found: Any) -> None:
    """The same with ReLU."""
    relu_step((u[0], q[0]), (at.tokens, at.parents), found[:1], at.target, at.first, at.last)


@inner
def gru_steps(at: Nodes, u: Array, q: Array, bias: Array, before: Array, found: Any) -> None:
    """The same for a GRU."""
    t, p = at.tokens, at.parents
    gru_step((u[0], u[1], u[2], q[0], q[1], q[2], bias, before[0]),
             (t, t, t, p, p, p, at.zeros, p), found[:1], at.target, at.first, at.last)  # fmt: skip


@inner
def lstm_steps(at: Nodes, u: Array, q: Array, bias: Array, before: Array, found: Any) -> None:
    """The same for an LSTM, which has a second state."""
    t, p = at.tokens, at.parents
    lstm_step((u[0], u[1], u[2], u[3], q[0], q[1], q[2], q[3], before[1]),
              (t, t, t, t, p, p, p, p, p), found, at.target, at.first, at.last)  # fmt: skip
