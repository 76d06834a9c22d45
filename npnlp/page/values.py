"""What a page holds of a model: its shape, its vocabularies and its weights, as JSON takes them."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from npnlp.classifier.classifier import Classifier
from npnlp.text import SurnameVectorizer
from npnlp.text.parts import BETWEEN, PARTICLES, SEPARATORS

#: The name in the box at first, where the model knows its letters.
EXAMPLE = "Nakamoto"


def values_of(classifier: Classifier, label: str = "") -> dict[str, Any]:
    """All that the page computes with; ``label`` stands above it.

    ``data`` are the ``tensors``, one after another, as float32 with the lowest byte first, in
    base64. Of a model in float32 those are its very bits.
    """
    config, vectorizer = classifier.model.config, classifier.vectorizer
    state = classifier.model.state_dict()
    flat = np.concatenate([value.reshape(-1) for value in state.values()])
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
        "data": base64.b64encode(flat.astype("<f4").tobytes()).decode("ascii"),
    }


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
