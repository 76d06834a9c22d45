"""A step of each cell for nodes of a tree of prefixes, compiled: states from those above them.

The equations are those of ``layers/recurrent/elman.py``, ``layers/recurrent/gru.py`` and
``layers/recurrent/lstm.py``. ``u`` is what an input is to a gate, from a table of all tokens, and
``q`` the product of the weights with the state above, of which a node has its own row each.
"""

from __future__ import annotations

from npnlp.backend.base import Array
from npnlp.backend.compiled.loops import gru, lstm
from npnlp.backend.compiled.vectors.elementwise import relu_of, tanh_of
from npnlp.backend.compiled.vectors.kernel import inner
from npnlp.backend.compiled.vectors.vectors import Number, picked


@picked
def tanh_step(u: Number, q: Number) -> tuple[Number, ...]:
    """``h`` from the input and the product."""
    return (tanh_of(u + q),)


@picked
def relu_step(u: Number, q: Number) -> tuple[Number, ...]:
    """The same with ReLU."""
    return (relu_of(u + q),)


@picked
def gru_step(
    u_r: Number, u_z: Number, u_n: Number, q_r: Number, q_z: Number, q_n: Number, b_n: Number,
    h_before: Number,
) -> tuple[Number, ...]:  # fmt: skip
    """``h``; ``b_n`` is what the layer adds to the product of its last gate."""
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
def tanh_steps(
    nodes: Array, target: Array, zeros: Array, table: Array, product: Array, bias: Array,
    before: Array, h: Array, c: Array, first: int, last: int,
) -> None:  # fmt: skip
    """The states of the nodes from ``first`` to ``last``, in rows ``target (TREE,)`` of h and c.

    ``nodes (3, TREE)``: the token and the node above come first. Shapes: ``table (G, V, H)``,
    ``product (G, TREE, H)``, ``bias (1, H)``, ``before (S, TREE, H)``, h and c ``(TREE, H)``;
    ``zeros (TREE,)`` are places of the bias. A cell takes what it needs of them.
    """
    tanh_step((table[0], product[0]), (nodes[0], nodes[1]), (h,), target, first, last)


@inner
def relu_steps(
    nodes: Array, target: Array, zeros: Array, table: Array, product: Array, bias: Array,
    before: Array, h: Array, c: Array, first: int, last: int,
) -> None:  # fmt: skip
    """The same with ReLU."""
    relu_step((table[0], product[0]), (nodes[0], nodes[1]), (h,), target, first, last)


@inner
def gru_steps(
    nodes: Array, target: Array, zeros: Array, table: Array, product: Array, bias: Array,
    before: Array, h: Array, c: Array, first: int, last: int,
) -> None:  # fmt: skip
    """The same of a GRU."""
    u, q, t, p = table, product, nodes[0], nodes[1]
    gru_step((u[0], u[1], u[2], q[0], q[1], q[2], bias, before[0]),
             (t, t, t, p, p, p, zeros, p), (h,), target, first, last)  # fmt: skip


@inner
def lstm_steps(
    nodes: Array, target: Array, zeros: Array, table: Array, product: Array, bias: Array,
    before: Array, h: Array, c: Array, first: int, last: int,
) -> None:  # fmt: skip
    """The same of an LSTM, which has a second state."""
    u, q, t, p = table, product, nodes[0], nodes[1]
    lstm_step((u[0], u[1], u[2], u[3], q[0], q[1], q[2], q[3], before[1]),
              (t, t, t, t, p, p, p, p, p), (h, c), target, first, last)  # fmt: skip
