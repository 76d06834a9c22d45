"""What a classifier's probabilities are worth, measured on test: a row of numbers a run.

The scores are those of ``metrics.json``, of names read whole. All else is what :class:`Classifier`
says to its user, who has names read in parts where they have any. A number that a model cannot
have, such as the threshold of a precision that no row held out reached, is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Random
from npnlp.classifier.classifier import Classifier
from npnlp.classifier.decision import Decision
from npnlp.classifier.evaluation import evaluate
from npnlp.classifier.inspection import outcomes_at, probability_scores
from npnlp.classifier.prior import estimate_shares, for_shares
from npnlp.errors import InputError
from npnlp.lab.strings import area_under_curve, random_strings
from npnlp.runs.card_decisions import LEVELS, PRECISIONS
from npnlp.runs.run import Run
from npnlp.text.encoding import encode_names

#: In another population, half of the classes have this many times the names.
TIMES = 3
#: Of the scores, those that have one before calibration, too.
CALIBRATED = ("log_loss", "brier", "calibration_error", "calibration_error_by_chance")


def scores_of(run: Run) -> dict[str, float]:
    """Accuracy, macro F1, the temperature, and how good probabilities are with and without it."""
    model, test = run.trainer.model, run.dataset.arrays("test")
    metrics = evaluate(model, test, run.trainer.criterion).metrics
    before, after = map(probability_scores, outcomes_at(model, test, (run.temperature, 1.0)))
    found = {name: metrics[name] for name in ("accuracy", "macro_f1")}
    found["temperature"] = run.temperature
    for name in CALIBRATED:
        found |= {f"{name}_before": before[name], name: after[name]}
    return found


def decisions_of(
    classifier: Classifier, names: Sequence[str], targets: NDArray[Any]
) -> dict[str, float]:
    """Thresholds, the share of names answered and of these answers right; sets and their sizes."""
    found: dict[str, float] = {}
    for precision in PRECISIONS:
        decision = Decision(precision=precision)
        least = answered = right = math.nan
        if _can(classifier, decision):
            least, made = decision.least(classifier.calibration), classifier.decided(
                names, decision=decision)  # fmt: skip
            given = np.array([place not in made.reasons for place in range(len(names))])
            answered = float(given.mean())
            if given.any():
                right = float((made.classes[:, 0] == targets)[given].mean())
        for name, value in (("threshold", least), ("answered", answered), ("right", right)):
            found[f"precision_{precision}_{name}"] = value
    for level in LEVELS:
        decision = Decision(sets=level)
        covered = size = math.nan
        if _can(classifier, decision):
            sets = classifier.decided(names, decision=decision).sets or []
            covered = float(
                np.mean([y in each for y, each in zip(targets.tolist(), sets, strict=True)])
            )
            size = float(np.mean(list(map(len, sets))))
        found |= {f"sets_{level}_covered": covered, f"sets_{level}_size": size}
    return found


def _can(classifier: Classifier, decision: Decision) -> bool:
    """Whether the rows held out are enough for it."""
    try:
        decision.least(classifier.calibration)
    except InputError:
        return False
    return classifier.calibration is not None


def populations_of(
    classifier: Classifier, names: Sequence[str], targets: NDArray[Any], draws: int, seed: int
) -> dict[str, float]:
    """Accuracy in populations where half of the classes, drawn at random, stand thrice as often.

    With the model as it is, with the shares known, with those estimated; the mean of the last less
    the one before it, and the least.
    """
    ways = ("as_it_is", "known", "estimated")
    columns = [*(f"prior_{way}" for way in ways), "prior_difference", "prior_worst"]
    if classifier.calibration is None:
        return dict.fromkeys(columns, math.nan)
    held, labels = classifier.calibration.shares, classifier.vectorizer.nationality_vocab.tokens
    p, accuracies = classifier.probabilities(names), []
    for draw in range(draws):
        times = np.ones(len(held), dtype=np.int64)
        times[Random(seed, f"population {draw}").permutation(len(held))[: len(held) // 2]] = TIMES
        rows = times[targets]
        known = np.bincount(targets, rows, len(held))
        estimated = estimate_shares(np.repeat(p, rows, axis=0), held)
        best = [p.argmax(axis=1)]
        for shares in (known, estimated):
            made = for_shares(classifier, dict(zip(labels, shares.tolist(), strict=True)))
            best.append(made.best(names)[0][:, 0])
        accuracies.append([float(np.average(each == targets, weights=rows)) for each in best])
    of_draws = np.array(accuracies)
    less = of_draws[:, 2] - of_draws[:, 1]
    numbers = [*of_draws.mean(axis=0).tolist(), float(less.mean()), float(less.min())]
    return dict(zip(columns, numbers, strict=True))


def familiarity_of(
    classifier: Classifier, names: Sequence[str], others: Sequence[str], count: int, seed: int
) -> dict[str, float]:
    """How well names stand apart from random strings and from ``others``, and what is unlike."""
    kinds = {"names": names, "random": random_strings(count, names, seed), "others": others}
    areas = [f"{kind}_area" for kind in kinds if kind != "names"]
    below = [f"{kind}_unlike" for kind in kinds]
    if classifier.familiarity is None:
        return dict.fromkeys([*areas, *below], math.nan)
    vectorizer = classifier.vectorizer
    scores = [
        classifier.familiarity.scores(
            *encode_names(vectorizer.as_read(list(texts)), vectorizer.char_vocab)
        )
        for texts in kinds.values()
    ]
    unlike = [len(classifier.unlike(list(texts))) / len(texts) for texts in kinds.values()]
    found = [area_under_curve(scores[0], each) for each in scores[1:]]
    return dict(zip([*areas, *below], [*found, *unlike], strict=True))


def measured(run: Run, others: Sequence[str], draws: int, count: int) -> dict[str, float]:
    """All of it, of the test rows of a run that is trained."""
    names = run.dataset.frames["test"]["surname"].tolist()
    targets, seed = run.dataset.arrays("test").targets, run.trainer.config.seed
    return {
        **scores_of(run),
        **decisions_of(run.classifier, names, targets),
        **populations_of(run.classifier, names, targets, draws, seed),
        **familiarity_of(run.classifier, names, others, count, seed),
        "model_bytes": run.model_file.stat().st_size,
    }
