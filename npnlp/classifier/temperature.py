"""Probabilities to be believed: one temperature, fitted on rows that the weights did not see.

    p = softmax(z / T)      T minimises the mean of -log p_y over the rows held out

T is taken where it helps by more than chance: fitted to nine tenths of the rows at a time, it has
to lower the loss of the others by over one standard error (the rule of Breiman et al.,
"Classification and regression trees", 1984). Otherwise T is 1.

With beta = 1 / T the loss is convex, and with ``E`` and ``Var`` over the classes by p,

    dL/dbeta = mean(E[z] - z_y)      d2L/dbeta2 = mean(Var[z])

The last linear layer is multiplied by beta, so whatever is made of the model has it: no answer
changes, only how sure it is. Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern
neural networks", 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.classifier.calibration import MOST, Calibration, evenly
from npnlp.classifier.inspection import logits_of
from npnlp.classifier.weights import rounded_to_half
from npnlp.layers import softmax
from npnlp.layers.soft_loss import log_softmax
from npnlp.models import SurnameClassifier
from npnlp.text import SplitArrays

#: Fewer rows held out say too little about a temperature.
LEAST = 100
#: Whether a temperature helps is tried on at most this many rows.
TRIED = 5_000
#: The parts of the rows that are left out in turn, to see whether a temperature helps.
FOLDS = 10


def fit_temperature(
    logits: NDArray[Any], targets: NDArray[Any], weights: NDArray[Any] | None = None
) -> float:
    """T of rows with ``logits (n, C)`` of ``targets (n,)``, from 1/20 to 20; 1 of no rows.

    ``weights (n,)`` make the mean a weighted one. By Newton's steps, and by halving where one
    would leave the interval that holds the minimum.
    """
    if not len(targets):
        return 1.0
    z = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    of_target = z[np.arange(len(z)), targets]
    low, high, beta = 1 / MOST, MOST, 1.0
    for _ in range(100):
        p = softmax(beta * z, np)
        mean = (p * z).sum(axis=1)
        slope = np.average(mean - of_target, weights=weights)
        curvature = np.average((p * z * z).sum(axis=1) - mean * mean, weights=weights)
        if slope == 0:  # at the minimum, or with logits that all are equal
            break
        low, high = (beta, high) if slope < 0 else (low, beta)
        step = beta - slope / curvature if curvature > 0 else np.inf
        before, beta = beta, step if low < step < high else (low + high) / 2
        if abs(beta - before) <= 1e-12 * beta:
            break
    return float(1 / beta)


def helps(logits: NDArray[Any], targets: NDArray[Any], weights: NDArray[Any] | None) -> bool:
    """Whether a temperature lowers the loss of rows that it was not fitted to, beyond chance."""
    fold, gain = np.arange(len(targets)) % FOLDS, np.zeros(len(targets))
    for k in range(FOLDS):
        left, out = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        own = None if weights is None else weights[left]
        scaled = logits[out] / fit_temperature(logits[left], targets[left], own)
        change = log_softmax(scaled, np) - log_softmax(logits[out], np)
        gain[out] = change[np.arange(len(out)), targets[out]]
    if weights is not None:
        gain *= weights
    return bool(gain.mean() > gain.std(ddof=1) / len(gain) ** 0.5)


def calibrate(
    model: SurnameClassifier, split: SplitArrays, *, half: bool = False
) -> Calibration | None:
    """Give the model the temperature of ``split``, which it was not trained on, where it helps.

    With ``half`` its weights are numbers of float16, and stay so. None, and nothing changes, where
    there are fewer than 100 rows, or a logit is not finite.
    """
    if len(split) < LEAST or not np.isfinite(logits := logits_of(model, split)).all():
        return None
    temperature = 1.0
    some = evenly(len(split), TRIED)
    own = None if split.weights is None else split.weights[some]
    if helps(logits[some].astype(np.float64), split.targets[some], own):
        temperature = fit_temperature(logits, split.targets, split.weights)
        for value in model.fc2.parameters.values():
            value *= model.dtype.type(1 / temperature)
            if half:
                value[...] = rounded_to_half(value, model.backend.xp)
        logits = logits_of(model, split)
    return _calibration(logits, split.targets, temperature)


def _calibration(
    logits: NDArray[Any], targets: NDArray[np.int64], temperature: float
) -> Calibration:
    """What a model that has its temperature says of the rows held out."""
    p, rows = softmax(logits.astype(np.float64), np), np.arange(len(logits))
    confidence, truth = p.max(axis=1), p[rows, targets]
    # The smallest number of float32 stands for a share of none.
    shares = np.maximum(p.mean(axis=0), np.finfo(np.float32).tiny)
    return Calibration(
        temperature, confidence.astype(np.float32), truth.astype(np.float32),
        targets.astype(np.int32), shares,
    )  # fmt: skip
