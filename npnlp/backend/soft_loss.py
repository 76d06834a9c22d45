"""The interface of fast code for the objective with distributions as targets.

It belongs to :mod:`npnlp.backend.operations`; the reference is ``training/objective.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from npnlp.backend.operations import Array
from npnlp.summary import summarized


@summarized
class SoftTerms(NamedTuple):
    """What the objective is made of: eps, alpha, ``adjustment (C,)`` and class weights, if any."""

    smoothing: float
    consistency: float
    adjustment: Array
    class_weights: Array | None


@summarized
class SoftLearned(NamedTuple):
    """The sums of weighted losses and of weights, the number of correct rows, and the gradient of
    each pass's logits.
    """

    loss_sum: Array
    weight_sum: Any
    correct: Array
    d_logits: list[Array]


class SoftLoss(Protocol):
    """The objective of the logits of one pass or two, and their gradients."""

    def __call__(
        self, terms: SoftTerms, logits: Sequence[Array], targets: Array, shares: Array | None,
        weights: Array | None,
    ) -> SoftLearned:  # fmt: skip
        """Logits ``(B, C)``, ``targets (B,)``; ``shares (B, C)`` and ``weights (B,)`` in float32,
        where the rows have them.
        """
