"""What a page holds of a model: its shape, its vocabularies and its weights, as JSON takes them."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from npnlp.backend import Random
from npnlp.classifier.classifier import Classifier
from npnlp.models import SurnameClassifier
from npnlp.text import SurnameVectorizer
from npnlp.text.parts import BETWEEN, PARTICLES, SEPARATORS

#: The name in the box at first, where the model knows its letters.
EXAMPLE = "Nakamoto"
#: The first weights that stand beside the trained ones are drawn with this seed.
SEED = 0


def values_of(classifier: Classifier, label: str = "") -> dict[str, Any]:
    """All that the page computes with; ``label`` stands above it.

    ``data`` are the ``tensors``, one after another, as float32 with the lowest byte first, in
    base64. Of a model in float32 those are its very bits. ``untrained`` are as many of
    :func:`untrained`.
    """
    config, vectorizer = classifier.model.config, classifier.vectorizer
    state = classifier.model.state_dict()
    return {
        "label": label,
        "cell": classifier.model.encoder.cells[0].kind(),
        "units": config.rnn_hidden_size,
        "embedding": config.embedding_size,
        "layers": config.num_layers,
        "bidirectional": config.bidirectional,
        "poolings": config.poolings,
        "classes": list(map(str, vectorizer.nationality_vocab.tokens)),
        "example": example_of(vectorizer),
        **_reading_of(vectorizer),
        "tensors": [[name, value.size] for name, value in state.items()],
        "data": _packed(classifier.model),
        "untrained": _packed(untrained(classifier)),
    }


def untrained(classifier: Classifier) -> SurnameClassifier:
    """The same network before its first step, as PyTorch draws it, from :data:`SEED`.

    ``npnlp train --seed 0`` starts from these weights; a run of another seed started from others
    of the same sizes.
    """
    model = classifier.model
    return SurnameClassifier(model.config, backend="numpy", random=Random(SEED, "model"))


def _packed(model: SurnameClassifier) -> str:
    flat = np.concatenate([value.reshape(-1) for value in model.state_dict().values()])
    return base64.b64encode(flat.astype("<f4").tobytes()).decode("ascii")


def example_of(vectorizer: SurnameVectorizer) -> str:
    """A name that the model can read: no name of its table, which may be nobody else's business."""
    known = vectorizer.char_vocab
    if all(letter in known for letter in vectorizer.as_read([EXAMPLE])[0]):
        return EXAMPLE
    return "".join(token for token in known.tokens if len(token) == 1 and token.isalpha())[:6]


def _reading_of(vectorizer: SurnameVectorizer) -> dict[str, Any]:
    """How names become tokens."""
    vocab = vectorizer.char_vocab
    ways = {mark: way for kind, way in vectorizer.split_at.items() for mark in SEPARATORS[kind]}
    return {
        "tokens": {c: n for n, c in enumerate(vocab.tokens) if len(c) == 1},
        "special": {
            "begin": vocab.begin_seq_index,
            "end": vocab.end_seq_index,
            "unknown": vocab.unk_index,
        },
        "letterCase": vectorizer.letter_case,
        "splitAt": {"ways": ways, "particles": sorted(PARTICLES), "between": BETWEEN},
    }
