"""Models of every cell that a page shows, on the vocabularies of npnlp's own model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Random, get_backend
from npnlp.classifier.classifier import Classifier
from npnlp.models import ClassifierConfig, SurnameClassifier

KINDS: dict[str, dict[str, Any]] = {
    "elman": {},
    "relu": {"nonlinearity": "relu"},
    "gru": {"cell": "gru", "num_layers": 2},
    "gru before": {"cell": "gru", "reset": "before"},
    "lstm": {"cell": "lstm", "pooling": "mean"},
    "lstm, both": {"cell": "lstm", "bidirectional": True, "num_layers": 2},
    "attention": {"cell": "gru", "bidirectional": True, "pooling": "attention"},
    "max": {"pooling": "max+last", "hidden_layer": False},
}
#: ``W_hh`` is drawn wide enough for every gate to be away from its middle.
WIDER, WIDER_HEAD = 2.0, 1.5


def made(kind: str) -> Classifier:
    """A model that has not been trained."""
    vectorizer = Classifier.load().vectorizer
    config = ClassifierConfig(
        num_embeddings=len(vectorizer.char_vocab), num_classes=len(vectorizer.nationality_vocab),
        **{"embedding_size": 10, "rnn_hidden_size": 12, **KINDS[kind]},
    )  # fmt: skip
    model = SurnameClassifier(config, backend=get_backend("numpy"), random=Random(7, "page"))
    for name, value in model.parameters.items():
        value *= WIDER_HEAD if name.startswith("fc") else WIDER
    return Classifier(model, vectorizer)


def scaled(model: SurnameClassifier, scale: float) -> SurnameClassifier:
    """The same model with every ``W_hh`` multiplied."""
    twin = model.astype(np.float64)
    for name, value in twin.parameters.items():
        if "weight_hh" in name:
            value *= scale
    return twin


def close(found: Any, expected: Any, bound: float = 1e-5) -> None:
    """Check that all numbers agree to ``bound``, relative to each of them.

    JSON has null, which is NaN here, for all that is not finite.
    """
    ours, theirs = (np.asarray(each, dtype=np.float64) for each in (found, expected))
    assert ours.shape == theirs.shape
    difference: NDArray[np.float64] = np.atleast_1d(np.abs(ours - theirs))
    worst = difference / np.maximum(np.abs(theirs), 1e-290)
    worst[np.atleast_1d(np.isnan(ours) & ~np.isfinite(theirs))] = 0
    assert (worst <= bound).all(), worst.max()
