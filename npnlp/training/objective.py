"""What training makes smaller: the loss of a batch, and its gradient in the model.

The plain objective is the (class-weighted) cross-entropy. The other one is made of parts that each
may be there or not:

    (1)  q_b = (1 - eps) y_b + eps / C                     label smoothing
    (2)  z' = z + tau log pi                               logit adjustment, pi the frequencies
    (3)  L = sum_b w_b CE(q_b, z'_b) / B                   w_b: how often the name stands there
         L = sum_bc v_c q_bc (-log softmax(z'_b)_c) / sum_b v[y_b]       with class weights v
    (4)  L = (L_1 + L_2) / 2 + alpha S(z_1, z_2) / 2       consistency of two dropout passes

Sources: Szegedy et al., 2016 (1); Menon et al., "Long-tail learning via logit adjustment", 2021,
equation 10 (2); Liang et al., "R-Drop", 2021, equation 3 (4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Random
from npnlp.backend.soft_loss import SoftLearned, SoftTerms
from npnlp.classifier.batches import Batch
from npnlp.layers import SoftmaxCrossEntropy
from npnlp.layers.loss import count_correct
from npnlp.layers.soft_loss import Consistency, SoftCrossEntropy
from npnlp.models import SurnameClassifier
from npnlp.summary import summarized
from npnlp.training.config import TrainingConfig

Probe = Callable[[Any], None]


def log_frequencies(targets: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """``log pi (C,)``, the logarithms of the classes' frequencies; one that is absent counts 1."""
    counts = np.maximum(np.bincount(targets, minlength=classes), 1)
    logarithms: NDArray[np.float64] = np.log(counts / counts.sum())
    return logarithms


@summarized
class Outcome(NamedTuple):
    """Of a batch: ``logits (B, C)``, the sums of weighted losses and of weights, and the number of
    rows that are predicted right.
    """

    logits: Array
    loss_sum: Array
    weight_sum: Any
    correct: Array


class Objective(Protocol):
    """Adds the gradient of a batch's loss into the gradients of the model.

    The layers' arguments are not checked at each step, but a split once, before the first
    (:func:`npnlp.classifier.batches.require_split`).
    """

    def __call__(
        self, model: SurnameClassifier, batch: Any, random: Random, probe: Probe | None
    ) -> Outcome:
        """Forward and backward; ``random`` is the stream of the dropout masks. ``batch`` is a
        :class:`Batch`, or a rank's part of one (:mod:`npnlp.training.distributed.shared`).
        """


class PlainObjective:
    """The cross-entropy, with one class a row as its target."""

    def __init__(self, criterion: SoftmaxCrossEntropy) -> None:
        self.criterion = criterion

    def __call__(
        self, model: SurnameClassifier, batch: Batch, random: Random, probe: Probe | None
    ) -> Outcome:
        """See :class:`Objective`."""
        if self.criterion.class_weights is None and self.criterion.ignore_index is None:
            found = model.learn_unchecked(
                targets=batch.targets, random=random, **batch.inputs, probe=probe
            )
            if found is not None:
                return Outcome(found.logits, found.loss_sum, len(found.losses), found.correct)
        logits, cache = model.run(**batch.inputs, random=random)
        _, loss = self.criterion.run(logits, batch.targets)
        model.zero_grads()
        model.undo(self.criterion.undo(1.0, loss), cache, probe)
        correct = count_correct(logits, batch.targets)
        return Outcome(logits, loss.loss_sum, loss.weight_sum, correct)


def make_objective(
    model: SurnameClassifier, criterion: SoftmaxCrossEntropy, config: TrainingConfig,
    log_prior: NDArray[np.float64], weighted: bool = False,
) -> Objective:  # fmt: skip
    """The objective that ``config`` asks for, with the class weights of ``criterion``.

    ``weighted`` says whether rows have weights of their own.
    """
    if not (config.soft or weighted):
        return PlainObjective(criterion)
    return SoftObjective(
        model, log_prior, smoothing=config.label_smoothing, adjustment=config.logit_adjustment,
        consistency=config.consistency, class_weights=criterion.class_weights,
    )  # fmt: skip


class SoftObjective:
    """(1) to (4), with distributions as targets.

    ``log_prior (C,)`` are the logarithms of the classes' frequencies; ``smoothing`` is eps,
    ``adjustment`` tau, and ``consistency`` alpha, which at 0 leaves the second pass out.
    ``class_weights (C,)`` go with rows of one class and weight one each.
    """

    def __init__(
        self,
        model: SurnameClassifier,
        log_prior: Array,
        *,
        smoothing: float = 0.0,
        adjustment: float = 0.0,
        consistency: float = 0.0,
        class_weights: Array | None = None,
    ) -> None:
        backend, dtype = model.backend, model.dtype
        self.backend, self.dtype = backend, dtype
        #: Whether the layers' own code runs, for who looks into a step.
        self.in_layers = False
        added = backend.asarray(adjustment * log_prior, dtype=dtype)
        self.terms = SoftTerms(smoothing, consistency, added, class_weights)
        self.unit = backend.xp.eye(len(log_prior), dtype=dtype)
        self.loss = SoftCrossEntropy(class_weights, backend=backend, dtype=dtype)
        self.divergence = Consistency(backend=backend, dtype=dtype)

    def __call__(
        self, model: SurnameClassifier, batch: Batch, random: Random, probe: Probe | None
    ) -> Outcome:
        """See :class:`Objective`."""
        streams = [random, random.child("again")] if self.terms.consistency else [random]
        passes = [model.run(**batch.inputs, random=stream) for stream in streams]
        learn = (None if self.in_layers else self.backend.soft_loss(self.dtype)) or self.by_layers
        logits = [logits for logits, _ in passes]
        found = learn(self.terms, logits, batch.targets, batch.shares, batch.weights)
        model.zero_grads()
        for number, ((_, cache), gradient) in enumerate(zip(passes, found.d_logits, strict=True)):
            model.undo(gradient, cache, None if number else probe)
        return Outcome(logits[0], found.loss_sum, found.weight_sum, found.correct)

    def by_layers(
        self, terms: SoftTerms, logits: Sequence[Array], labels: Array, shares: Array | None,
        row_weights: Array | None,
    ) -> SoftLearned:  # fmt: skip
        """The reference of :class:`SoftLoss`, in array calls."""
        xp, dtype = self.backend.xp, self.dtype
        targets = self.unit.take(labels, axis=0) if shares is None else shares
        targets = (1 - terms.smoothing) * targets + terms.smoothing / len(self.unit)  # (1)
        weights: Any = xp.ones(len(targets), dtype=dtype) if row_weights is None else row_weights
        weights = weights.astype(dtype, copy=False)
        weight_sum: Any = len(targets)
        if terms.class_weights is not None:
            weight_sum = terms.class_weights.take(labels).sum()
            weights = weights * (len(targets) / weight_sum)
        found = [self.loss.run(z + terms.adjustment, targets, weights) for z in logits]  # (2), (3)
        total: Any = sum(loss for loss, _ in found) / len(logits)
        gradients = [self.loss.undo(1 / len(logits), cache) for _, cache in found]  # undoes (3)
        if terms.consistency:
            divergence, apart = self.divergence.run(*logits, weights)  # (4)
            total = total + terms.consistency / 2 * divergence
            for gradient, of_other in zip(
                gradients, self.divergence.undo(terms.consistency / 2, apart), strict=True
            ):
                gradient += of_other  # undoes (4)
        correct = count_correct(logits[0], labels)
        return SoftLearned(total * weight_sum, weight_sum, correct, gradients)
