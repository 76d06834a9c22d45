"""Scores of predictions, and running a model over a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from npnlp.backend import Random
from npnlp.classifier import batches
from npnlp.classifier.evaluation import evaluate
from npnlp.classifier.metrics import confusion_matrix, scores
from npnlp.layers import Packing, SoftmaxCrossEntropy
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SplitArrays, SurnameDataset
from tests.support.tables import small_dataset

pytestmark = pytest.mark.peers

Matrix = list[list[int]]


def test_a_row_is_the_truth_and_a_column_the_prediction() -> None:
    found = confusion_matrix(np.array([0, 0, 2, 1]), np.array([0, 1, 1, 1]), 3)
    assert found.tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]


def test_classes_that_never_occur_have_their_place() -> None:
    assert confusion_matrix(np.array([0]), np.array([0]), 4).shape == (4, 4)


@pytest.mark.parametrize(
    ("matrix", "accuracy", "balanced", "f1"),
    [
        ([[5, 0], [0, 5]], 1.0, 1.0, 1.0),
        ([[0, 5], [5, 0]], 0.0, 0.0, 0.0),
        # Always the first class: recalls 1 and 0; F1 of the first 2*90/(2*90+10).
        ([[90, 0], [10, 0]], 0.9, 0.5, (180 / 190 + 0) / 2),
        # Recalls 3/4, 1/2; F1 6/8 and 2/4 (tp 3, fp 1, fn 1; tp 1, fp 1, fn 1).
        ([[3, 1], [1, 1]], 4 / 6, (3 / 4 + 1 / 2) / 2, (6 / 8 + 2 / 4) / 2),
        # The third class neither occurs nor is predicted: it counts nowhere.
        ([[3, 1, 0], [1, 1, 0], [0, 0, 0]], 4 / 6, (3 / 4 + 1 / 2) / 2, (6 / 8 + 2 / 4) / 2),
        # The second class is predicted and never occurs: no recall, an F1 of 0.
        ([[3, 1], [0, 0]], 3 / 4, 3 / 4, (6 / 7 + 0) / 2),
    ],
)
def test_scores_of_small_cases(matrix: Matrix, accuracy: float, balanced: float, f1: float) -> None:
    found = scores(np.array(matrix))
    assert found["accuracy"] == pytest.approx(accuracy, abs=1e-12)
    assert found["balanced_accuracy"] == pytest.approx(balanced, abs=1e-12)
    assert found["macro_f1"] == pytest.approx(f1, abs=1e-12)
    assert all(type(value) is float for value in found.values())


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("seed", range(6))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the oracle here")
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, [3, 7, 18][seed % 3], size=40)
    predictions = np.where(generator.random(40) < 0.5, targets, generator.integers(0, 18, size=40))
    matrix = confusion_matrix(targets, predictions, 18)
    expected = metrics.confusion_matrix(targets, predictions, labels=range(18))
    assert np.array_equal(matrix, expected)
    found = scores(matrix)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(targets, predictions))
    assert found["macro_f1"] == pytest.approx(
        metrics.f1_score(targets, predictions, average="macro")
    )
    assert found["balanced_accuracy"] == pytest.approx(
        metrics.balanced_accuracy_score(targets, predictions)
    )


@pytest.fixture
def dataset(tmp_path: Path) -> SurnameDataset:
    return small_dataset(tmp_path)


@pytest.fixture
def model(dataset: SurnameDataset) -> SurnameClassifier:
    config = ClassifierConfig(
        num_embeddings=len(dataset.get_vectorizer().char_vocab), num_classes=3,
        embedding_size=6, rnn_hidden_size=8, dropout=0.5,
    )  # fmt: skip
    return SurnameClassifier(config, random=Random(3, "model"))


def criterion(weights: list[float] | None = None) -> SoftmaxCrossEntropy:
    return SoftmaxCrossEntropy(None if weights is None else np.array(weights, dtype=np.float32))


def logits_one_by_one(model: SurnameClassifier, split: SplitArrays) -> NDArray[np.float64]:
    rows = []
    for start, length in zip(split.starts, split.lengths, strict=True):
        packing = Packing.of(np.array([length]), model.backend)
        logits, _ = model.forward(split.tokens[start : start + length], packing=packing)
        rows.append(np.asarray(logits, dtype=np.float64)[0])
    return np.array(rows)


def losses_one_by_one(model: SurnameClassifier, split: SplitArrays) -> NDArray[np.float64]:
    logits = logits_one_by_one(model, split)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    losses: NDArray[np.float64] = -np.log(probabilities[np.arange(len(split)), split.targets])
    return losses


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 5.0], [0.001, 1.0, 30.0]])
def test_the_loss_is_the_weighted_mean_of_all_rows(
    model: SurnameClassifier, dataset: SurnameDataset, weights: list[float] | None
) -> None:
    split = dataset.arrays("train")
    losses = losses_one_by_one(model, split)
    of_row = np.array(weights or [1.0] * 3)[split.targets]
    found = evaluate(model, split, criterion(weights))
    assert found.loss == pytest.approx((of_row * losses).sum() / of_row.sum(), rel=1e-5)


def test_predictions_are_the_largest_logits(
    model: SurnameClassifier, dataset: SurnameDataset
) -> None:
    split = dataset.arrays("train")
    expected = confusion_matrix(split.targets, logits_one_by_one(model, split).argmax(axis=1), 3)
    found = evaluate(model, split, criterion())
    assert np.array_equal(found.confusion, expected)
    assert found.metrics == {"loss": found.loss, **scores(expected)}


@pytest.mark.parametrize("batch_size", [1, 5, 41, 42, 43])
def test_every_row_counts_whatever_the_batch_size(
    model: SurnameClassifier,
    dataset: SurnameDataset,
    batch_size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    split, weighted = dataset.arrays("train"), criterion([1.0, 2.0, 5.0])
    whole = evaluate(model, split, weighted)
    monkeypatch.setattr(batches, "EVALUATION_BATCH", batch_size)
    parts = evaluate(model, split, weighted)
    assert parts.confusion.sum() == len(split) == 42
    assert np.array_equal(parts.confusion, whole.confusion)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)


def test_the_mean_of_batch_means_would_be_another_loss(
    model: SurnameClassifier, dataset: SurnameDataset
) -> None:
    """The check above can fail: for these weights and batches the two means differ."""
    split = dataset.arrays("train")
    losses, weights = losses_one_by_one(model, split), np.array([1.0, 2.0, 5.0])[split.targets]
    order = np.argsort(split.lengths, kind="stable")
    batches = [order[i : i + 5] for i in range(0, 42, 5)]
    of_means = np.mean([(losses[b] * weights[b]).sum() / weights[b].sum() for b in batches])
    assert of_means != pytest.approx((losses * weights).sum() / weights.sum(), rel=1e-4)


def test_evaluating_changes_nothing_and_drops_nothing(
    model: SurnameClassifier, dataset: SurnameDataset
) -> None:
    before, grads = model.state_dict(), model.flat.grads.copy()
    first = evaluate(model, dataset.arrays("train"), criterion())
    second = evaluate(model, dataset.arrays("train"), criterion())
    assert first.loss == second.loss
    assert np.array_equal(first.confusion, second.confusion)
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())
    assert np.array_equal(model.flat.grads, grads)


def test_dropout_would_be_seen(model: SurnameClassifier, dataset: SurnameDataset) -> None:
    """The check above can fail: with a stream of masks the logits differ."""
    packing = Packing.of(np.array([4]), model.backend)
    tokens = dataset.arrays("train").tokens[:4]
    plain, _ = model.forward(tokens, packing=packing)
    dropped, _ = model.forward(tokens, packing=packing, random=Random(0, "training"))
    assert not np.array_equal(plain, dropped)
