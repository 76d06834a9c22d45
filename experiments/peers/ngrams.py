"""Character n-grams and logistic regression, with scikit-learn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from npnlp.lab.comparison import Answers, Result, answers_of, score
from npnlp.text import SurnameDataset

BEGIN, END = "\x02", "\x03"
ORDERS = (1, 4)
#: What is tried on val: first how n-grams are counted, with the middle C, then C.
COUNTS = [
    {"lowercase": lower, "sublinear_tf": sublinear}
    for lower, sublinear in product((False, True), repeat=2)
]
STRENGTHS = (3.0, 10.0, 30.0, 100.0)
#: Each weighting, and the score on val by which it is chosen.
WEIGHTINGS = {"ngrams": (None, "accuracy"), "ngrams-balanced": ("balanced", "macro_f1")}
ITERATIONS = 300


class Regression:
    """TF-IDF of all n-grams of 1 to 4 characters, markers at both ends; logistic regression."""

    def __init__(self, dataset: SurnameDataset, counts: dict[str, bool]) -> None:
        self.frames = dataset.frames
        self.targets = dataset.arrays("train").targets
        self.vectorizer = TfidfVectorizer(analyzer="char", ngram_range=ORDERS, **counts)
        started = time.process_time()
        self.train = self.vectorizer.fit_transform(self._texts("train"))
        self.seconds = time.process_time() - started

    def _texts(self, split: str) -> list[str]:
        return [f"{BEGIN}{name}{END}" for name in self.frames[split]["surname"]]

    def fit(self, strength: float, weights: str | None) -> tuple[Any, float]:
        """The fitted model, and the seconds it took."""
        started = time.process_time()
        model = LogisticRegression(C=strength, class_weight=weights, max_iter=ITERATIONS)
        model.fit(self.train, self.targets)
        return model, self.seconds + time.process_time() - started

    def probabilities(self, model: Any, split: str) -> Any:
        """Those of every row of a split; every class occurs in train."""
        return model.predict_proba(self.vectorizer.transform(self._texts(split)))


def chosen(
    dataset: SurnameDataset, name: str, answers: Answers
) -> Iterator[tuple[dict[str, Any], Regression, Any, float]]:
    """Every choice that is tried: how it does on val, and the model."""
    weights, by = WEIGHTINGS[name]
    middle = STRENGTHS[len(STRENGTHS) // 2]
    best: tuple[float, Any] = (-1.0, None)
    for counts in COUNTS:
        regression = Regression(dataset, counts)
        model, seconds = regression.fit(middle, weights)
        found = score(regression.probabilities(model, "val"), answers)
        best = max(best, (found[by], regression), key=lambda each: each[0])
        yield _tried(name, counts, middle, found), regression, model, seconds
    regression = best[1]
    counts = {key: getattr(regression.vectorizer, key) for key in COUNTS[0]}
    for strength in STRENGTHS:
        if strength != middle:
            model, seconds = regression.fit(strength, weights)
            found = score(regression.probabilities(model, "val"), answers)
            yield _tried(name, counts, strength, found), regression, model, seconds


def _tried(
    name: str, counts: dict[str, bool], strength: float, found: dict[str, float]
) -> dict[str, Any]:
    on_val = {f"val_{score}": found[score] for score in ("accuracy", "macro_f1")}
    return {"entrant": name, **counts, "C": strength, **on_val}


def train(dataset: SurnameDataset, name: str) -> tuple[Result, list[dict[str, Any]]]:
    """The best on val, which alone reads test; and all that was tried."""
    answers, by = answers_of(dataset, "val"), f"val_{WEIGHTINGS[name][1]}"
    tries = list(chosen(dataset, name, answers))
    best = max(range(len(tries)), key=lambda place: tries[place][0][by])
    _, regression, model, seconds = tries[best]
    result = Result(
        entrant=name,
        seed=None,
        probabilities={s: regression.probabilities(model, s) for s in ("val", "test")},
        parameters=int(np.size(model.coef_) + np.size(model.intercept_)),
        seconds=seconds,
        epochs=int(np.max(model.n_iter_)),
    )
    rows = [tried | {"chosen": place == best} for place, (tried, *_) in enumerate(tries)]
    return result, rows
