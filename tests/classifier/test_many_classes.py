"""Of many classes nothing is kept but what was asked for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from npnlp.backend import Random
from npnlp.classifier.classifier import BLOCK_NUMBERS, Classifier
from npnlp.classifier.inspection import outcomes
from npnlp.inference import most_probable, predictor
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SurnameDataset, SurnameVectorizer
from npnlp.text.parts import AS_A_WHOLE, SplitAt, in_parts

CLASSES, NAMES = 2000, 6000
#: All classes of all names, in bytes of float32.
ALL = CLASSES * NAMES * 4


def frame() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    names = ["".join(generator.choice(list("abcdef"), 8)) for _ in range(NAMES)]
    labels = [f"class {place % CLASSES}" for place in range(NAMES)]
    return pd.DataFrame({"surname": names, "nationality": labels, "split": "train"})


FRAME = frame()
SURNAMES = FRAME["surname"].tolist()


def classifier_of(**settings: Any) -> Classifier:
    vectorizer = SurnameVectorizer.from_dataframe(FRAME)
    config = ClassifierConfig(
        num_embeddings=len(vectorizer.char_vocab), num_classes=CLASSES, embedding_size=8,
        rnn_hidden_size=8, **settings,
    )  # fmt: skip
    model = SurnameClassifier(config, backend="numpy", random=Random(0))
    return Classifier(model, vectorizer)


def peak(call: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


WAYS = [{}, {"bidirectional": True, "hidden_layer": False}, {"pooling": "attention"}]


@pytest.mark.parametrize("settings", WAYS, ids=["one direction", "two", "packed"])
@pytest.mark.parametrize("split_at", [AS_A_WHOLE, {"spaces": "everywhere"}], ids=["whole", "parts"])
def test_the_best_are_found_block_by_block(
    settings: dict[str, Any], split_at: SplitAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = classifier_of(**settings)
    classifier.vectorizer.split_at = split_at
    names = [f"{name[:4]} {name[4:]}" for name in SURNAMES] if split_at else SURNAMES
    expected, made = classifier.probabilities(names), list[Any]()
    monkeypatch.setattr(predictor, "SUMS", 2**21)
    used = peak(lambda: made.extend(classifier.best(names, 3)))
    assert used < (7 if split_at else 3.5) * BLOCK_NUMBERS * 4
    classes, best = made
    assert best == pytest.approx((-np.sort(-expected, axis=1))[:, :3], rel=1e-5)
    assert best == pytest.approx(np.take_along_axis(expected, classes, axis=1), rel=1e-5)


def test_exact_answers_keep_no_class_that_is_not_wanted() -> None:
    classifier, names = classifier_of(), SURNAMES[:300]
    classes, best = classifier.best(names[:9], 2, exact=True)
    expected = most_probable(classifier.probabilities(names[:9], exact=True), 2)
    np.testing.assert_array_equal(classes, expected[0])
    np.testing.assert_array_equal(best, expected[1])
    assert peak(lambda: classifier.best(names, 2, exact=True)) < 300 * CLASSES * 2


@pytest.mark.parametrize("count", [1, 2, 5, 18, 300])
def test_the_most_probable_are_those_of_a_stable_sort(count: int) -> None:
    x = np.random.default_rng(count).integers(0, 9, (50, count)).astype(np.float32)
    x[3], x[4, : count // 2] = np.nan, np.inf
    before = x.copy()
    for top_k in (1, 2, 3, count // 3 + 1, count, count + 1):
        classes, values = most_probable(x, top_k)
        order = np.argsort(-x, axis=1, kind="stable")[:, :top_k]
        np.testing.assert_array_equal(classes, order)
        np.testing.assert_array_equal(values, np.take_along_axis(x, order, axis=1))
    np.testing.assert_array_equal(x, before)


def test_parts_are_averaged_a_few_names_at_a_time() -> None:
    names = ["a b", "c", "d e f", "g-h", "i j", "k l m n o"]
    parts = in_parts(names, {"spaces": "everywhere"})
    assert parts is not None
    some = list(parts.of_at_most(4))
    assert [each.places for each in some] == [[0], [2], [4], [5]]
    assert [each.places for each in parts.of_at_most(5)] == [[0, 2], [4], [5]]
    assert [each.names for each in parts.of_at_most(99)] == [parts.names]
    assert some[1].starts == [0]
    (first, *_) = parts.of_at_most(5)
    assert first.names == ["a", "b", "d", "e", "f"]
    assert first.starts == [0, 2]


def test_outcomes_keep_a_batch_of_classes() -> None:
    classifier = classifier_of()
    split = SurnameDataset(FRAME, classifier.vectorizer).arrays("train")
    found = outcomes(classifier.model, split)
    p = classifier.probabilities(SURNAMES[:40])
    assert found.confidence[:40] == pytest.approx(p.max(axis=1), rel=1e-5)
    assert found.brier[:40] == pytest.approx(
        ((p - np.eye(CLASSES)[split.targets[:40]]) ** 2).sum(axis=1), rel=1e-5
    )
    assert peak(lambda: outcomes(classifier.model, split)) < ALL
