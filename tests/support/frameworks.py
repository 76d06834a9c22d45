"""Keras and Flax for the tests that compare with them, and their models beside this project's."""

from __future__ import annotations

import importlib
import os
import tempfile
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npnlp.classifier.classifier import Classifier
from npnlp.exchange.differences import Names, difference, own_pass
from tests.support.exchange import C, V, some_names

#: Keras reads these when it is imported: PyTorch computes, and no file is written to a home folder.
SETTINGS = {"KERAS_BACKEND": "torch", "KERAS_HOME": f"{tempfile.gettempdir()}/npnlp-keras"}


def needed(name: str) -> Any:
    """A module of a framework, or the test is skipped; its own warnings are not ours."""
    os.environ.update(SETTINGS)
    with warnings.catch_warnings(action="ignore"):
        try:
            return importlib.import_module(name)
        except Exception as error:
            pytest.skip(f"{name} cannot be imported: {error}")


def real_names(padding: int = 2, seed: int = 0) -> Names:
    """Names of unequal length without the mask inside, padded with it, as every text is."""
    names = some_names([5, 1, 9, 2, 12, 9, 3], padding, seed)
    random = np.random.default_rng(seed)
    tokens = random.integers(1, V, names.tokens.shape)
    past = np.arange(tokens.shape[1]) >= names.lengths[:, None]
    return Names(np.where(past, 0, tokens), names.lengths, random.integers(0, C, len(tokens)))


NAMES = real_names()


def same_logits(classifier: Classifier, theirs: Any, names: Names = NAMES) -> None:
    found = difference("logits", own_pass(classifier.model, names)[0], np.asarray(theirs))
    assert found.passed, found
    assert found.largest > 1e-3


def same_gradients(ours: Mapping[str, NDArray[Any]], theirs: Mapping[str, NDArray[Any]]) -> None:
    """Of all tensors; a bias that the framework does not have is left out of ``theirs``."""
    assert ours.keys() >= theirs.keys()
    for name, value in theirs.items():
        found = difference(f"gradient of {name}", ours[name], value)
        assert found.passed, found
