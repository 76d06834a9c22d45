"""Attention pooling: a weighted mean of the hidden states, with learned weights.

    (1)  a_n = W h_n + b                        all N packed rows in one product
    (2)  u_n = tanh(a_n)
    (3)  e_n = u_n . c                          similarity to the context vector c
    (4)  alpha_n = exp(e_n) / sum exp(e_m)      over the steps m of n's own sequence
    (5)  y_b = sum alpha_n h_n                  over the steps n of sequence b

Backward:

    undoes (5)  dalpha_n = dy_b . h_n,  dh_n = alpha_n dy_b
    undoes (4)  de_n = alpha_n (dalpha_n - sum_m alpha_m dalpha_m)
    undoes (3)  du_n = de_n c,  dc = sum_n de_n u_n
    undoes (2)  da_n = (1 - u_n^2) du_n
    undoes (1)  dW = da^T h,  db = sum_n da_n,  dh_n += W^T da_n

Source: Yang, Yang, Dyer, He, Smola and Hovy, "Hierarchical attention networks for document
classification", 2016, equations 5 to 7.
"""

from __future__ import annotations

from typing import Unpack

from npnlp.backend import Array
from npnlp.backend.step_operations import StepSoftmax
from npnlp.layers.base import Cache, LayerOptions, uniform_fan
from npnlp.layers.packing import Packing
from npnlp.layers.pooling.per_sequence import spread, total
from npnlp.layers.pooling.plain import Pooling


class AttentionPoolingCache(Cache):
    """``hidden (N, D)``; ``u (N, D)``; ``alpha (N,)``, the weight of each packed row; ``packing``.

    The weights of a sequence sum to 1. :func:`npnlp.layers.pad_packed_sequence` lays them out to be
    shown beside its characters.
    """

    hidden: Array
    u: Array
    alpha: Array
    packing: Packing


class PackedSoftmax:
    """(4) in array calls; see :class:`StepSoftmax`."""

    def forward(self, e: Array, packing: Packing) -> Array:
        """``alpha (N,)`` of ``e (N,)``."""
        # Subtracting a sequence's maximum leaves its softmax unchanged and keeps exp in range.
        backend = packing.backend
        largest = packing.unsort(backend.first_largest(e.real[:, None], packing))[:, 0]
        exponentials = backend.xp.exp(e - spread(e.real.take(largest), packing))
        alpha: Array = exponentials / spread(total(exponentials[:, None], packing), packing)[:, 0]
        return alpha

    def backward(self, d_alpha: Array, alpha: Array, packing: Packing) -> Array:
        """``dL/de (N,)``."""
        d_e: Array = alpha * d_alpha
        d_e -= alpha * spread(total(d_e[:, None], packing), packing)[:, 0]
        return d_e


class AttentionPooling(Pooling):
    """``y = sum_t alpha_t h_t``, with ``alpha = softmax_t(c . tanh(W h_t + b))``.

    Parameters: ``weight (D, D)``, ``bias (D,)`` and ``context (D,)``, all uniform in
    ``+-1/sqrt(D)`` at first.
    """

    cache = AttentionPoolingCache

    def __init__(self, features: int, **options: Unpack[LayerOptions]) -> None:
        super().__init__(features, **options)
        self.add_parameter("weight", uniform_fan((features, features), features))
        self.add_parameter("bias", uniform_fan((features,), features))
        self.add_parameter("context", uniform_fan((features,), features))

    def forward(
        self, hidden: Array, h_last: Array, *, packing: Packing
    ) -> tuple[Array, AttentionPoolingCache]:
        """See :meth:`Pooling.forward`."""
        xp, weights = self.backend.xp, self.parameters
        u = xp.dot(hidden, weights["weight"].T)  # (1)
        u += weights["bias"]
        xp.tanh(u, out=u)  # (2)
        e = xp.dot(u, weights["context"])  # (3)
        alpha = self._softmax(e).forward(e, packing)  # (4)
        y = total(alpha[:, None] * hidden, packing)  # (5)
        return y, AttentionPoolingCache(hidden, u, alpha, packing)

    def backward(self, dy: Array, cache: AttentionPoolingCache) -> tuple[Array, None]:
        """See :meth:`Pooling.backward`."""
        xp, grads, packing = self.backend.xp, self.grads, cache.packing
        alpha, d_y = cache.alpha, spread(dy, packing)
        d_alpha = (d_y * cache.hidden).sum(axis=1)  # undoes (5), towards alpha
        d_hidden = d_y * alpha[:, None]  # undoes (5), towards h
        d_e = self._softmax(alpha).backward(d_alpha, alpha, packing)  # undoes (4)
        grads["context"] += xp.dot(d_e, cache.u)  # undoes (3), towards c
        d_a = d_e[:, None] * self.parameters["context"]  # undoes (3), towards u
        d_a *= 1 - cache.u * cache.u  # undoes (2)
        grads["bias"] += d_a.sum(axis=0)  # undoes (1)
        grads["weight"] += xp.dot(d_a.T, cache.hidden)  # undoes (1), towards W
        d_hidden += xp.dot(d_a, self.parameters["weight"])  # undoes (1), towards h
        return d_hidden, None

    def _softmax(self, like: Array) -> StepSoftmax | PackedSoftmax:
        """(4), that of the backend where it has one."""
        return self.backend.step_softmax(like.dtype) or PackedSoftmax()

    def check_backward(self, dy: Array, cache: AttentionPoolingCache) -> None:
        """See :class:`Layer`."""
        super().check_backward(dy, cache)
        self.expect("hidden of the cache", cache.hidden, cache.packing.rows, self.features)
