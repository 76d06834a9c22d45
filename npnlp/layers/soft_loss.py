"""Cross-entropy against a distribution, and the divergence of two predictions of one row."""

from __future__ import annotations

from typing import Any, Unpack

from npnlp.backend import Array
from npnlp.layers.arguments import number_like, require_cache, require_number, require_some
from npnlp.layers.base import Cache, Layer, LayerOptions


class SoftCache(Cache):
    """``probabilities`` and ``targets (B, C)``; ``scale (B, 1)``: each row's weight over B.

    With class weights, ``targets`` are ``v_c q_bc``, and ``sums (B, 1)`` what they add up to.
    """

    probabilities: Array
    targets: Array
    scale: Array
    sums: Array | None = None


class SoftCrossEntropy(Layer):
    """``L = sum_b w_b l_b / B`` with ``l_b = -sum_c q_bc log softmax(z_b)_c``.

    Backward: ``dL/dz_b = w_b / B (softmax(z_b) - q_b)``. ``q (B, C)`` are distributions: of the
    labels of a name that has several, or smoothed ones (Szegedy et al., "Rethinking the inception
    architecture for computer vision", 2016, section 7).

    With ``class_weights (C,)``, v, it is ``l_b = -sum_c v_c q_bc log softmax(z_b)_c``, and
    ``dL/dz_b = w_b / B (s_b softmax(z_b) - v q_b)`` with ``s_b = sum_c v_c q_bc``. Row weights
    ``w_b = B / sum_b v[y_b]`` then make the mean that of PyTorch's ``CrossEntropyLoss``.
    """

    def __init__(self, class_weights: Array | None = None, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.class_weights = class_weights

    def forward(self, logits: Array, targets: Array, weights: Array) -> tuple[Array, SoftCache]:
        """The loss (a scalar) of ``logits (B, C)`` at ``targets (B, C)`` with ``weights (B,)``."""
        logs = log_softmax(logits, self.backend.xp)  # (1)
        scale = (weights / len(weights))[:, None]
        sums = None
        if self.class_weights is not None:
            targets = targets * self.class_weights
            sums = targets.sum(axis=1)[:, None]
        loss: Array = -(scale * targets * logs).sum()  # (2)
        return loss, SoftCache(self.backend.xp.exp(logs), targets, scale, sums)

    def backward(self, d_loss: Array | float, cache: SoftCache) -> Array:
        """Return ``dL/dlogits``; each row of the targets that were given sums to one."""
        p = cache.probabilities if cache.sums is None else cache.probabilities * cache.sums
        d_z: Array = number_like(d_loss, cache.scale) * cache.scale * (p - cache.targets)
        return d_z  # undoes (2), (1)

    def check_forward(self, logits: Array, targets: Array, weights: Array) -> None:
        """See :class:`Layer`."""
        self.expect("logits", logits, None, None)
        self.expect("targets", targets, *logits.shape)
        self.expect("weights", weights, len(logits))
        if self.class_weights is not None:
            self.expect("class_weights", self.class_weights, logits.shape[1])
        require_some("logits", logits)

    def check_backward(self, d_loss: Array | float, cache: SoftCache) -> None:
        """See :class:`Layer`."""
        require_cache(cache, SoftCache)
        require_number("d_loss", d_loss)


class ConsistencyCache(Cache):
    """``p``, ``q``, ``difference = log p - log q (B, C)``, and ``scale (B, 1)``."""

    p: Array
    q: Array
    difference: Array
    scale: Array


class Consistency(Layer):
    """``S = sum_b w_b sum_c (p - q)(log p - log q) / B`` of ``p = softmax(z)``, ``q = softmax(v)``.

    The sum of both Kullback-Leibler divergences between two predictions. It makes two passes with
    different dropout masks agree: Liang et al., "R-Drop: regularized dropout for neural
    networks", 2021, equation 2. With ``r = log p - log q``,

    ``dS/dz_c = w / B (p_c (r_c - sum_k p_k r_k) + p_c - q_c)``, and ``dS/dv`` the same with p and q
    exchanged and r negated.
    """

    def forward(self, z: Array, v: Array, weights: Array) -> tuple[Array, ConsistencyCache]:
        """The divergence (a scalar) of logits ``z`` and ``v (B, C)`` with ``weights (B,)``."""
        xp = self.backend.xp
        log_p, log_q = log_softmax(z, xp), log_softmax(v, xp)  # (1)
        p, q, scale = xp.exp(log_p), xp.exp(log_q), (weights / len(weights))[:, None]
        difference = log_p - log_q
        divergence = (scale * (p - q) * difference).sum()  # (2)
        return divergence, ConsistencyCache(p, q, difference, scale)

    def backward(self, d_loss: Array | float, cache: ConsistencyCache) -> tuple[Array, Array]:
        """``(dS/dz, dS/dv)``."""
        p, q, r = cache.p, cache.q, cache.difference
        scale = number_like(d_loss, cache.scale) * cache.scale
        d_z = scale * (p * (r - (p * r).sum(axis=1)[:, None]) + p - q)  # undoes (2), (1)
        d_v = scale * (q * ((q * r).sum(axis=1)[:, None] - r) + q - p)  # undoes (2), (1)
        return d_z, d_v

    def check_forward(self, z: Array, v: Array, weights: Array) -> None:
        """See :class:`Layer`."""
        self.expect("z", z, None, None)
        self.expect("v", v, *z.shape)
        self.expect("weights", weights, len(z))
        require_some("z", z)

    def check_backward(self, d_loss: Array | float, cache: ConsistencyCache) -> None:
        """See :class:`Layer`."""
        require_cache(cache, ConsistencyCache)
        require_number("d_loss", d_loss)


def log_softmax(logits: Array, xp: Any) -> Array:
    """``z_c - log sum exp z`` of every row, in ``xp``."""
    shifted: Array = logits - logits.real.max(axis=1)[:, None]
    log_sums: Array = xp.log(xp.exp(shifted).sum(axis=1))
    return shifted - log_sums[:, None]
