"""A classifier's head in one compiled call: the same bits as its layers one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random, get_backend
from npnlp.backend.threads import blas_threads
from npnlp.classifier.batches import Batch
from npnlp.classifier.building import make_criterion
from npnlp.layers import Packing, SoftmaxCrossEntropy
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.training.objective import PlainObjective

pytest.importorskip("numba", reason="Numba is not installed")
pytest.importorskip("scipy", reason="SciPy, whose BLAS Numba calls, is not installed")
pytestmark = pytest.mark.peers

NUMPY, NUMBA = get_backend("numpy"), get_backend("numba")
SMALL = ClassifierConfig(30, 7, 6, 20)
LENGTHS = np.array([9, 4, 4, 2, 1])
CASES = {
    "elman": SMALL,
    "lstm, both directions": replace(SMALL, cell="lstm", bidirectional=True),
    "transformer, mean": replace(SMALL, cell="transformer", pooling="mean"),
    "n-grams": replace(SMALL, ngram_orders=(2, 3), ngram_size=4, num_ngrams=8),
    "nothing dropped": replace(SMALL, dropout=0.0),
    "much dropped": replace(SMALL, dropout=0.9),
    "too large for BLAS alone": replace(SMALL, rnn_hidden_size=600),
}
each_case = pytest.mark.parametrize("case", list(CASES))


def model_of(config: ClassifierConfig, dtype: np.dtype[Any]) -> SurnameClassifier:
    model = SurnameClassifier(config, backend=NUMBA, dtype=dtype, random=Random(3, "model"))
    model.flat.grads.fill(np.nan)  # what was there before does not count
    return model


def inputs() -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    tokens = random.integers(4, 30, LENGTHS.sum())
    return {"tokens": tokens, "packing": Packing.of(LENGTHS, NUMBA)}, random.integers(0, 7, 5)


@each_case
@pytest.mark.parametrize("step", [0, 2**63 + 5])
def test_one_call_gives_the_bits_of_the_layers(case: str, step: int, dtype: np.dtype[Any]) -> None:
    given, targets = inputs()
    random = Random(5, "training", step)
    whole, parts = (model_of(CASES[case], dtype) for _ in range(2))
    learned = whole.learn(targets=targets, random=random, **given)
    assert learned is not None
    logits, cache = parts.forward(**given, random=random)
    criterion = SoftmaxCrossEntropy(backend=NUMBA, dtype=dtype)
    loss, of_loss = criterion.forward(logits, targets)
    parts.zero_grads()
    parts.backward(criterion.backward(1.0, of_loss), cache)
    np.testing.assert_array_equal(learned.logits, logits)
    assert learned.losses.sum() == of_loss.loss_sum
    assert learned.losses.mean() == pytest.approx(loss)
    assert learned.correct == (logits.argmax(axis=1) == targets).sum()
    for name, grad in parts.grads.items():
        np.testing.assert_array_equal(whole.grads[name], grad, err_msg=name)
    assert np.abs(parts.grads["emb.weight"]).sum() > 0


@pytest.mark.parametrize("weighted", [False, True])
def test_the_objective_is_numpys(weighted: bool, dtype: np.dtype[Any]) -> None:
    given, targets = inputs()
    weights = np.linspace(0.5, 2, 7).astype(dtype) if weighted else None
    found = []
    for backend in (NUMBA, NUMPY):
        model = SurnameClassifier(SMALL, backend=backend, dtype=dtype, random=Random(3, "model"))
        criterion = make_criterion(model, weights)
        batch = Batch(given["tokens"], np.arange(30), given["packing"], targets, np.arange(5))
        seen: list[Any] = []
        outcome = PlainObjective(criterion)(model, batch, Random(5, "training"), seen.append)
        assert len(seen) == 1
        sums = [outcome.loss_sum, outcome.weight_sum, outcome.correct]
        found.append([outcome.logits, *sums, model.flat.grads, seen[0].d_hidden])
    bound = 1e-5 if dtype == np.float32 else 1e-12
    for ours, numpys in zip(*found, strict=True):
        np.testing.assert_allclose(ours, numpys, rtol=bound, atol=bound)


def test_what_has_no_single_call_goes_layer_by_layer() -> None:
    given, targets = inputs()
    single, random = np.dtype(np.float32), Random(5, "training")

    def learned(config: ClassifierConfig = SMALL, dtype: Any = single) -> Any:
        model = SurnameClassifier(config, backend=NUMBA, dtype=dtype, random=Random(3, "model"))
        return model.learn(targets=targets, random=random, **given)

    assert learned() is not None
    assert learned(replace(SMALL, hidden_layer=False)) is None
    assert learned(dtype=np.complex128) is None
    assert NUMPY.classifier_head(np.dtype(np.complex128)) is None
    with blas_threads(2):
        assert learned() is None


@pytest.mark.parametrize("target", [7, -1])
def test_a_class_that_is_not_there_is_refused(target: int, dtype: np.dtype[Any]) -> None:
    given, targets = inputs()
    targets[2] = target
    with pytest.raises(IndexError, match="target"):
        model_of(SMALL, dtype).learn_unchecked(targets=targets, random=Random(5), **given)
