"""Scaled dot-product attention: each step of a sequence weighs all of its steps.

    (1)  s_ij = q_i . k_j / sqrt(d)
    (2)  s_ij = -inf                           for a step j past the sequence's end
    (3)  A_ij = exp(s_ij) / sum_m exp(s_im)    but 0 for a step i past the sequence's end
    (4)  P = dropout(A)                        in training
    (5)  o_i = sum_j P_ij v_j

Backward:

    undoes (5)  dP_ij = do_i . v_j,  dv_j = sum_i P_ij do_i
    undoes (4)  dA = dropout.backward(dP)
    undoes (3)  ds_ij = A_ij (dA_ij - sum_m A_im dA_im)
    undoes (2)  nothing to do: A is 0 there, and so is ds
    undoes (1)  dq_i = sum_j ds_ij k_j / sqrt(d),  dk_j = sum_i ds_ij q_i / sqrt(d)

Source: Vaswani et al., "Attention is all you need", 2017, equation 1.
"""

from __future__ import annotations

from typing import Unpack

from npnlp.backend import Array, Random
from npnlp.layers.arguments import require_cache, require_packing, require_random
from npnlp.layers.base import Cache, LayerOptions
from npnlp.layers.composite import Composite
from npnlp.layers.dropout import Dropout, DropoutCache
from npnlp.layers.packing import Packing


class DotProductCache(Cache):
    """``q``, ``k`` and ``v (B, heads, T, d)``; ``weights (B, heads, T, T)``: A; ``dropped``: P."""

    q: Array
    k: Array
    v: Array
    weights: Array
    dropped: Array
    dropout: DropoutCache


class DotProductAttention(Composite):
    """``o = softmax(q k^T / sqrt(d)) v`` over the steps of each sequence.

    ``dropout`` is the probability that a weight is dropped. No parameters.
    """

    def __init__(self, dropout: float = 0.0, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.dropout = self.add_layer("dropout", Dropout(dropout, **self.options_of("dropout")))

    def forward(
        self, q: Array, k: Array, v: Array, random: Random | None = None, *, packing: Packing
    ) -> tuple[Array, DotProductCache]:
        """``o (B, heads, T, d)`` of q, k, v of that shape; zero past a sequence's end.

        Of a single sequence q may hold some of the queries, and o then holds those. Without
        ``random`` (evaluation) no weight is dropped.
        """
        xp = self.backend.xp
        lengths = self.backend.asarray(packing.lengths)[:, None, None, None]
        steps = xp.arange(k.shape[2])
        s = xp.matmul(q * q.shape[3] ** -0.5, k.swapaxes(2, 3))  # (1)
        if packing.lengths.min() < k.shape[2]:
            s = xp.where(steps < lengths, s, -float("inf"))  # (2)
        # Subtracting a row's maximum leaves its softmax unchanged and keeps exp in range.
        s -= s.real.max(axis=3)[..., None]
        weights = xp.exp(s, out=s)
        weights *= (steps[: q.shape[2], None] < lengths) / weights.sum(axis=3)[..., None]  # (3)
        dropped, dropout = self.dropout.forward(weights, random)  # (4)
        o = xp.matmul(dropped, v)  # (5)
        return o, DotProductCache(q, k, v, weights, dropped, dropout)

    def backward(self, d_o: Array, cache: DotProductCache) -> tuple[Array, Array, Array]:
        """``(dL/dq, dL/dk, dL/dv)``."""
        matmul = self.backend.xp.matmul
        d_v = matmul(cache.dropped.swapaxes(2, 3), d_o)  # undoes (5), towards v
        d_dropped = matmul(d_o, cache.v.swapaxes(2, 3))  # undoes (5), towards P
        d_s = self.dropout.backward(d_dropped, cache.dropout) * cache.weights  # undoes (4), (3)
        d_s -= cache.weights * d_s.sum(axis=3)[..., None]  # undoes (3), its sum
        scale = cache.q.shape[3] ** -0.5
        d_q = matmul(d_s, cache.k) * scale  # undoes (1), towards q
        d_k = matmul(d_s.swapaxes(2, 3), cache.q) * scale  # undoes (1), towards k
        return d_q, d_k, d_v

    def check_forward(
        self, q: Array, k: Array, v: Array, random: Random | None = None, *, packing: Packing
    ) -> None:
        """See :class:`Layer`."""
        require_random(random)
        require_packing(packing)
        batch, steps = len(packing.lengths), packing.runs.shape[1]
        self.expect("q", q, batch, None, None if batch == 1 else steps, None)
        self.expect("k", k, *q.shape[:2], steps, q.shape[3])
        self.expect("v", v, *k.shape[:3], None)

    def check_backward(self, d_o: Array, cache: DotProductCache) -> None:
        """See :class:`Layer`."""
        require_cache(cache, DotProductCache)
        self.expect("d_o", d_o, *cache.q.shape[:3], cache.v.shape[3])
