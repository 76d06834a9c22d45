"""A classifier's head in one call on NumPy: the same bits as its layers one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random, get_backend
from npnlp.layers import Packing, SoftmaxCrossEntropy
from npnlp.models import ClassifierConfig, SurnameClassifier

NUMPY = get_backend("numpy")
SMALL = ClassifierConfig(30, 7, 6, 20)
LENGTHS = np.array([9, 4, 4, 2, 1])
CASES = {
    "elman": SMALL,
    "lstm, both directions": replace(SMALL, cell="lstm", bidirectional=True),
    "n-grams": replace(SMALL, ngram_orders=(2, 3), ngram_size=4, num_ngrams=8),
    "nothing dropped": replace(SMALL, dropout=0.0),
    "much dropped": replace(SMALL, dropout=0.9),
}


def model_of(config: ClassifierConfig, dtype: Any, backend: str = "numpy") -> SurnameClassifier:
    model = SurnameClassifier(config, backend=backend, dtype=dtype, random=Random(3, "model"))
    model.flat.grads.fill(1)  # what was there before does not count
    return model


def inputs() -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    tokens = random.integers(4, 30, LENGTHS.sum())
    return {"tokens": tokens, "packing": Packing.of(LENGTHS, NUMPY)}, random.integers(0, 7, 5)


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_call_gives_the_bits_of_the_layers(case: str, dtype: Any) -> None:
    given, targets = inputs()
    random = Random(5, "training", 3)
    whole, parts = (model_of(CASES[case], dtype) for _ in range(2))
    learned = whole.learn(targets=targets, random=random, **given)
    assert learned is not None
    logits, cache = parts.forward(**given, random=random)
    criterion = SoftmaxCrossEntropy(dtype=dtype)
    _, of_loss = criterion.forward(logits, targets)
    parts.zero_grads()
    parts.backward(criterion.backward(1.0, of_loss), cache)
    np.testing.assert_array_equal(learned.logits, logits)
    assert learned.losses.sum() == of_loss.loss_sum
    assert learned.correct == (logits.argmax(axis=1) == targets).sum()
    for name, grad in parts.grads.items():
        np.testing.assert_array_equal(whole.grads[name], grad, err_msg=name)
    assert np.abs(parts.grads["emb.weight"]).sum() > 0


def test_what_has_no_single_call_goes_layer_by_layer() -> None:
    given, targets = inputs()

    def learned(config: ClassifierConfig = SMALL, dtype: Any = np.float32, **more: str) -> Any:
        return model_of(config, dtype, **more).learn(targets=targets, random=Random(5), **given)

    assert learned() is not None
    assert learned(replace(SMALL, hidden_layer=False)) is None
    assert learned(dtype=np.complex128) is None
    assert learned(backend="reference") is None
