"""The objectives of training against the plain one, and against numerical gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Array, Backend, Random, get_backend
from npnlp.classifier.batches import Batch, batches
from npnlp.classifier.building import make_criterion
from npnlp.gradients.point import COMPLEX_STEP
from npnlp.layers import SoftmaxCrossEntropy
from npnlp.layers.soft_loss import Consistency, ConsistencyCache, SoftCrossEntropy, log_softmax
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SplitArrays
from npnlp.text.repeats import merged
from npnlp.training.objective import Outcome, PlainObjective, Probe, SoftObjective
from tests.support.reference import BOUNDS, Floats, assert_close, host

NUMPY = get_backend("numpy")
CLASSES = 3
CONFIG = ClassifierConfig(
    num_embeddings=8, num_classes=CLASSES, embedding_size=3, rnn_hidden_size=4, cell="gru",
    pooling="max+mean", hidden_layer=False, dropout=0.3, embedding_dropout=0.2, char_dropout=0.2,
    ngram_orders=(1, 2), num_ngrams=9, ngram_size=2, ngram_dropout=0.4,
)  # fmt: skip
QUIET = replace(CONFIG, dropout=0.0, embedding_dropout=0.0, char_dropout=0.0, ngram_dropout=0.0)
LOG_PRIOR = np.log(np.array([0.5, 0.3, 0.2]))
MASKS = Random(4, "training")


def split_of(names: list[list[int]], targets: list[int]) -> SplitArrays:
    lengths = np.array([len(name) for name in names])
    tokens = np.array([token for name in names for token in name])
    return SplitArrays(tokens, np.cumsum(lengths) - lengths, lengths, np.array(targets))


NAMES = [[2, 5, 6, 3], [2, 7, 3], [2, 5, 6, 3], [2, 4, 4, 6, 7, 3], [2, 5, 6, 3], [2, 7, 3]]
SPLIT = split_of(NAMES, [0, 2, 1, 1, 0, 2])


def model_of(
    config: ClassifierConfig = QUIET, backend: Backend = NUMPY, dtype: Any = np.float64
) -> SurnameClassifier:
    model = SurnameClassifier(config, backend=backend, dtype=dtype, random=Random(11))
    if model.ngrams is not None:  # of tokens 2, 5, 6, 3 and pairs of them; the others are unknown
        keys = [3, 4, 6, 7, 8, 3 * 9 + 6, 6 * 9 + 7, 7 * 9 + 4, 8 * 9 + 4]
        model.ngrams.keys = backend.asarray(np.array(keys))
    return model


def whole(split: SplitArrays, backend: Backend = NUMPY) -> Batch:
    (batch,) = batches(split, np.arange(len(split)), len(split), backend)
    return batch


def exact(split: SplitArrays) -> Batch:
    """The batch of a merged split, with its shares and weights in float64."""
    batch = whole(split)
    assert split.shares is not None
    assert split.weights is not None
    return batch._replace(shares=split.shares[batch.rows], weights=split.weights[batch.rows])


def plain(model: SurnameClassifier) -> PlainObjective:
    return PlainObjective(make_criterion(model))


def soft(model: SurnameClassifier, **parts: Any) -> SoftObjective:
    return SoftObjective(model, LOG_PRIOR, **parts)


def gradients_of(
    objective: Any, model: SurnameClassifier, batch: Batch, probe: Probe | None = None
) -> tuple[Outcome, dict[str, Floats]]:
    model.flat.grads[...] = 7.0  # what stood there before is to go
    found = objective(model, batch, MASKS, probe)
    return found, {k: v.copy() for k, v in host(model.backend, model.grads).items()}


def assert_same_gradients(found: dict[str, Floats], expected: dict[str, Floats]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert np.abs(value).max() > 0, name
        assert_close(found[name], value)


@pytest.mark.parametrize("config", [QUIET, CONFIG], ids=["no dropout", "dropout"])
def test_without_its_parts_it_is_the_plain_objective(
    config: ClassifierConfig, backend: Backend
) -> None:
    model, batch = model_of(config, backend), whole(SPLIT, backend)
    expected, wanted = gradients_of(plain(model), model, batch)
    found, grads = gradients_of(soft(model), model, batch)
    assert_same_gradients(grads, wanted)
    assert_close(found.logits, backend.to_numpy(expected.logits), backend=backend)
    assert float(found.loss_sum) == pytest.approx(float(expected.loss_sum), rel=1e-12)
    assert found.weight_sum == expected.weight_sum == len(NAMES)


def test_merged_names_are_the_names_apart(backend: Backend) -> None:
    """Labels shared and names weighted: the mean over the merged rows is that over all rows."""
    model = model_of()
    expected, wanted = gradients_of(plain(model), model, whole(SPLIT))
    together = merged(SPLIT, CLASSES)
    assert len(together) == 3
    found, grads = gradients_of(soft(model), model, exact(together))
    assert_same_gradients(grads, wanted)
    mean = float(found.loss_sum) / found.weight_sum
    assert mean == pytest.approx(float(expected.loss_sum) / expected.weight_sum, rel=1e-12)


def test_in_a_batch_shares_are_in_single_precision(backend: Backend, dtype: np.dtype[Any]) -> None:
    together = merged(SPLIT, CLASSES)
    model, batch = model_of(QUIET, backend, dtype), whole(together, backend)
    assert batch.shares is not None
    assert batch.shares.dtype == np.float32
    objective = soft(model, smoothing=0.1, adjustment=0.5, consistency=0.7)
    found, grads = gradients_of(objective, model, batch)
    twin = model_of()
    parts = soft(twin, smoothing=0.1, adjustment=0.5, consistency=0.7)
    expected, wanted = gradients_of(parts, twin, exact(together))
    assert found.logits.dtype == model.dtype
    assert float(found.loss_sum) == pytest.approx(float(expected.loss_sum), rel=1e-5)
    for name, value in grads.items():
        assert value.dtype == dtype
        assert_close(value, wanted[name], 1e-5)


PARTS: list[dict[str, float]] = [
    {"smoothing": 0.2},
    {"adjustment": 1.5},
    {"consistency": 0.8},
    {"smoothing": 0.1, "adjustment": 0.5, "consistency": 2.0},
]


def numerical(config: ClassifierConfig, batch: Batch, parts: dict[str, float]) -> Floats:
    """The derivative of the loss by every weight, through all that the objective does."""
    twin = model_of(config).astype(np.complex128)
    objective = soft(twin, **parts)
    found = np.zeros(twin.flat.values.size)
    for place in range(found.size):
        twin.flat.values[place] += 1j * COMPLEX_STEP
        outcome = objective(twin, batch, MASKS, None)
        found[place] = (outcome.loss_sum / outcome.weight_sum).imag / COMPLEX_STEP
        twin.flat.values[place] -= 1j * COMPLEX_STEP
    return found


@pytest.mark.parametrize("parts", PARTS, ids=str)
@pytest.mark.parametrize("config", [QUIET, CONFIG], ids=["no dropout", "dropout"])
def test_the_gradient_by_complex_step(config: ClassifierConfig, parts: dict[str, float]) -> None:
    model, batch = model_of(config), exact(merged(SPLIT, CLASSES))
    gradients_of(soft(model, **parts), model, batch)
    assert_close(model.flat.grads, numerical(config, batch, parts))


class WithoutSecondPass(SoftObjective):
    """Backpropagates the first pass alone, as if the second were a constant."""

    def __call__(
        self, model: SurnameClassifier, batch: Batch, random: Random, probe: Probe | None
    ) -> Outcome:
        number = iter(range(2))
        backward = model.undo

        def first_only(*arguments: Any) -> None:
            if next(number) == 0:
                backward(*arguments)

        vars(model)["undo"] = first_only  # in place of the method, for this object
        try:
            return super().__call__(model, batch, random, probe)
        finally:
            del vars(model)["undo"]


class SameMask(SoftObjective):
    """Two passes with one mask, which have nothing to agree on."""

    def __call__(
        self, model: SurnameClassifier, batch: Batch, random: Random, probe: Probe | None
    ) -> Outcome:
        class Once(Random):
            def child(self, name: str) -> Random:
                return random if name == "again" else random.child(name)

        return super().__call__(model, batch, Once(random.seed, random.name, random.step), probe)


class HalfDivergence(SoftObjective):
    """Adds the divergence to the loss, but half of it to the gradient."""

    def __init__(self, *arguments: Any, **parts: Any) -> None:
        super().__init__(*arguments, **parts)

        class Half(Consistency):
            def backward(self, d_loss: Any, cache: ConsistencyCache) -> tuple[Array, Array]:
                return super().backward(d_loss / 2, cache)

        self.divergence = Half(dtype=np.float64)


@pytest.mark.parametrize("wrong", [WithoutSecondPass, SameMask, HalfDivergence])
def test_a_wrong_objective_is_caught(wrong: type[SoftObjective]) -> None:
    parts: dict[str, Any] = {"smoothing": 0.1, "consistency": 2.0}
    model, batch = model_of(CONFIG), exact(merged(SPLIT, CLASSES))
    gradients_of(wrong(model, LOG_PRIOR, **parts), model, batch)
    right = numerical(CONFIG, batch, parts)
    assert np.abs(model.flat.grads - right).max() > 1e-3 * np.abs(right).max()


@pytest.mark.parametrize("adjustment", [0.5, 1.5])
def test_adjustment_adds_the_prior_to_the_logits(adjustment: float) -> None:
    """In the loss only: what is counted as right are the logits themselves."""
    model, batch = model_of(), whole(SPLIT)
    logits, cache = model.forward(**batch.inputs)
    found, grads = gradients_of(soft(model, adjustment=adjustment), model, batch)
    np.testing.assert_array_equal(found.logits, logits)
    criterion = SoftmaxCrossEntropy(dtype=np.float64)
    loss, kept = criterion.forward(logits + adjustment * LOG_PRIOR, batch.targets)
    model.zero_grads()
    model.backward(criterion.backward(1.0, kept), cache)
    assert_same_gradients(grads, host(NUMPY, model.grads))
    assert float(found.loss_sum) / len(NAMES) == pytest.approx(float(loss), rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.1, 0.9])
def test_smoothing_gives_a_share_to_all_classes(smoothing: float) -> None:
    model, batch = model_of(), whole(SPLIT)
    found, _ = gradients_of(soft(model, smoothing=smoothing), model, batch)
    logs = log_softmax(model.forward(**batch.inputs)[0], np)
    hard = logs[np.arange(len(NAMES)), batch.targets].sum()
    expected = -(1 - smoothing) * hard - smoothing * logs.mean(axis=1).sum()
    assert float(found.loss_sum) == pytest.approx(expected, rel=1e-12)


def test_consistency_adds_half_of_alpha_times_what_parts_two_passes() -> None:
    model, batch = model_of(CONFIG), whole(SPLIT)
    passes = [model.forward(**batch.inputs, random=r)[0] for r in (MASKS, MASKS.child("again"))]
    assert np.abs(passes[0] - passes[1]).max() > 0.01
    ones = np.ones(len(NAMES))
    hard = np.eye(CLASSES)[batch.targets]
    loss = SoftCrossEntropy(dtype=np.float64)
    both = [float(loss.forward(logits, hard, ones)[0]) for logits in passes]
    apart = float(Consistency(dtype=np.float64).forward(passes[0], passes[1], ones)[0])
    assert apart > 0
    for alpha in (0.5, 3.0):
        found, _ = gradients_of(soft(model, consistency=alpha), model, batch)
        mean = float(found.loss_sum) / len(NAMES)
        assert mean == pytest.approx(sum(both) / 2 + alpha / 2 * apart, rel=1e-12)
        np.testing.assert_array_equal(found.logits, passes[0])


def test_without_dropout_two_passes_are_one() -> None:
    model, batch = model_of(), whole(SPLIT)
    expected, wanted = gradients_of(soft(model), model, batch)
    found, grads = gradients_of(soft(model, consistency=5.0), model, batch)
    assert float(found.loss_sum) == pytest.approx(float(expected.loss_sum), rel=1e-12)
    assert_same_gradients(grads, wanted)


@pytest.mark.parametrize("consistency", [0.0, 1.0])
def test_the_probe_is_shown_one_pass(consistency: float) -> None:
    model, batch = model_of(CONFIG), whole(SPLIT)
    seen: list[Any] = []
    _, grads = gradients_of(soft(model, consistency=consistency), model, batch, seen.append)
    assert len(seen) == len(model.encoder.cells) == 1
    _, again = gradients_of(soft(model, consistency=consistency), model, batch)
    assert_same_gradients(grads, again)


def test_weights_scale_the_rows() -> None:
    model, batch = model_of(), whole(SPLIT)
    weights = np.array([2.0, 0, 0, 1, 0, 3])
    found, grads = gradients_of(soft(model), model, batch._replace(weights=weights))
    total = {name: np.zeros_like(value) for name, value in grads.items()}
    loss = 0.0
    for row, weight in zip(batch.rows, weights, strict=True):
        only = split_of([NAMES[row]], [int(SPLIT.targets[row])])
        outcome, part = gradients_of(plain(model), model, whole(only))
        loss += weight * float(outcome.loss_sum)
        for name, value in part.items():
            total[name] += weight * value / len(NAMES)
    assert float(found.loss_sum) == pytest.approx(loss, rel=1e-12)
    assert_same_gradients(grads, total)


CLASS_WEIGHTS = np.array([0.5, 3.0, 1.2])


def weighted_and_smoothed(model: SurnameClassifier) -> SoftObjective:
    weights = model.backend.asarray(CLASS_WEIGHTS, dtype=model.dtype)
    return SoftObjective(model, LOG_PRIOR, smoothing=0.1, class_weights=weights)


def test_class_weights_stand_inside_the_smoothed_part(
    backend: Backend, dtype: np.dtype[Any]
) -> None:
    model, batch = model_of(QUIET, backend, dtype), whole(SPLIT, backend)
    found, _ = gradients_of(weighted_and_smoothed(model), model, batch)
    total, targets = 0.0, backend.to_numpy(batch.targets)
    for logit, y in zip(backend.to_numpy(found.logits).astype(float), targets, strict=True):
        logs = logit - np.log(np.exp(logit).sum())
        total -= 0.9 * CLASS_WEIGHTS[y] * logs[y] + 0.1 / CLASSES * CLASS_WEIGHTS @ logs
    bound = BOUNDS[dtype.name]
    assert float(found.weight_sum) == pytest.approx(CLASS_WEIGHTS[targets].sum(), rel=bound)
    assert float(found.loss_sum) == pytest.approx(total, rel=bound)


def test_without_smoothing_class_weights_are_those_of_the_plain_objective() -> None:
    model, batch = model_of(CONFIG), whole(SPLIT)
    criterion = SoftmaxCrossEntropy(CLASS_WEIGHTS, dtype=np.float64)
    expected, wanted = gradients_of(PlainObjective(criterion), model, batch)
    objective = SoftObjective(model, LOG_PRIOR, class_weights=CLASS_WEIGHTS)
    found, grads = gradients_of(objective, model, batch)
    assert_same_gradients(grads, wanted)
    assert float(found.loss_sum) == pytest.approx(float(expected.loss_sum), rel=1e-12)
    assert float(found.weight_sum) == pytest.approx(float(expected.weight_sum), rel=1e-12)


def test_the_gradient_with_class_weights_by_complex_step() -> None:
    model, batch = model_of(), whole(SPLIT)
    gradients_of(weighted_and_smoothed(model), model, batch)
    largest, twin = np.abs(model.flat.grads).max(), model.astype(np.complex128)
    for place in range(0, len(model.flat.values), 5):
        twin.flat.values[...] = model.flat.values
        twin.flat.values[place] += 1j * COMPLEX_STEP
        found = weighted_and_smoothed(twin)(twin, batch, MASKS, None)
        numeric = (found.loss_sum / found.weight_sum).imag / COMPLEX_STEP
        assert abs(model.flat.grads[place] - numeric) <= 1e-12 * largest


@pytest.mark.peers
def test_class_weights_and_smoothing_equal_pytorch(backend: Backend) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model, batch = model_of(QUIET, backend), whole(SPLIT, backend)
    found, _ = gradients_of(weighted_and_smoothed(model), model, batch)
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(backend.to_numpy(found.logits)),
        torch.tensor(backend.to_numpy(batch.targets)),
        weight=torch.tensor(CLASS_WEIGHTS), label_smoothing=0.1,
    )  # fmt: skip
    mean = float(found.loss_sum / found.weight_sum)
    assert mean == pytest.approx(float(expected), rel=1e-12)
