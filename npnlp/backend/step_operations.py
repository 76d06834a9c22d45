"""Operations over all steps of packed sequences, as those of :mod:`npnlp.backend.operations`."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from npnlp.backend.operations import Array, PackedSteps
from npnlp.backend.random import Random
from npnlp.summary import summarized


@summarized
class Attended(NamedTuple):
    """What the backward pass of attention needs: ``projected (N, 3 E)``, the input; ``weights`` and
    ``dropped (B, heads, T, T)``, A and P of ``attention/dot_product.py``; the ``random`` stream and
    the probability ``p`` of the dropout between them.
    """

    projected: Array
    weights: Array
    dropped: Array
    random: Random | None
    p: float


class AttentionPasses(Protocol):
    """Both passes of all heads on packed rows: (2) to (4) of ``layers/attention/attention.py``."""

    def forward(
        self, projected: Array, heads: int, random: Random | None, p: float, steps: PackedSteps
    ) -> tuple[Array, Attended]:
        """``o (N, E)``, the heads side by side, of ``projected (N, 3 E)``, q, k and v.

        Rows that belong to no sequence get 0, in both passes. Without ``random`` nothing is
        dropped.
        """

    def backward(self, d_out: Array, found: Attended, steps: PackedSteps) -> Array:
        """``dL/dprojected`` of ``dL/do``."""


class StepSoftmax(Protocol):
    """Softmax over the steps of each packed sequence, both passes; see ``pooling/attention.py``."""

    def forward(self, e: Array, steps: PackedSteps) -> Array:
        """``alpha_n = exp(e_n) / sum_m exp(e_m)`` over the steps m of n's own sequence: ``(N,)``.

        Rows that belong to no sequence get 0, in both passes.
        """

    def backward(self, d_alpha: Array, alpha: Array, steps: PackedSteps) -> Array:
        """``dL/de_n = alpha_n (dL/dalpha_n - sum_m alpha_m dL/dalpha_m)``: ``(N,)``."""
