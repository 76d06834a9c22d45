"""Models and names for the tests of the exchange with other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from npnlp.backend import Random, get_backend
from npnlp.classifier.classifier import Classifier
from npnlp.exchange.differences import Names
from npnlp.layers import pack_padded_sequence
from npnlp.layers.ngrams import known_ngrams
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SurnameDataset, SurnameVectorizer
from tests.support.reference import draw
from tests.support.tables import frame_of, small_rows

VECTORIZER = SurnameVectorizer.from_dataframe(frame_of(small_rows()))
V, C = len(VECTORIZER.char_vocab), len(VECTORIZER.nationality_vocab)
POOLINGS = ("last", "mean", "max", "attention")
CELLS: dict[str, dict[str, Any]] = {
    "elman tanh": {"cell": "elman"},
    "elman relu": {"cell": "elman", "nonlinearity": "relu"},
    "gru after": {"cell": "gru"},
    "gru before": {"cell": "gru", "reset": "before"},
    "lstm": {"cell": "lstm"},
    "transformer": {"cell": "transformer", "num_heads": 2},
}
SHAPES = [(name, depth, both) for name in CELLS for depth in (1, 2, 3) for both in (False, True)
          if not (name == "transformer" and both)]  # fmt: skip
#: Every cell, depth, direction and pooling.
CASES = [{**CELLS[name], "num_layers": depth, "bidirectional": both, "pooling": pooling}
         for name, depth, both in SHAPES for pooling in POOLINGS]  # fmt: skip

ALL_POOLINGS = "last+mean+max+attention"
#: What else a classifier may have: several poolings, no hidden layer, a bag of n-grams beside.
OTHERS: list[dict[str, Any]] = [
    {"cell": "lstm", "pooling": "mean+max", "bidirectional": True},
    {"cell": "transformer", "num_heads": 2, "pooling": ALL_POOLINGS},
    {"cell": "gru", "reset": "before", "pooling": "last", "hidden_layer": False},
    {"cell": "elman", "pooling": "last", "ngram_orders": (1, 2, 3), "ngram_size": 4},
    {"cell": "gru", "pooling": "last", "ngram_orders": (3,), "ngram_size": 4},
    {"cell": "gru", "pooling": ALL_POOLINGS, "bidirectional": True, "hidden_layer": False,
     "ngram_orders": (2, 4), "ngram_size": 4, "num_layers": 2},
]  # fmt: skip


def label(case: dict[str, Any]) -> str:
    return " ".join(str(value) for value in case.values())


def made(seed: int = 3, **fields: Any) -> Classifier:
    """A small classifier; its weights are drawn, also those that are zero or one at first."""
    sizes = {"embedding_size": 5, "rnn_hidden_size": 6} | fields
    orders = fields.get("ngram_orders", ())
    keys = some_keys(orders) if orders else np.zeros(0, dtype=np.int64)
    config = ClassifierConfig(num_embeddings=V, num_classes=C, num_ngrams=len(keys), **sizes)
    model = SurnameClassifier(config, random=Random(seed))
    if model.ngrams is not None:
        model.ngrams.keys = keys
    model.flat.values[...] += 0.1 * draw(seed, *model.flat.values.shape).astype(np.float32)
    return Classifier(model, VECTORIZER)


def some_keys(orders: tuple[int, ...]) -> NDArray[Any]:
    """Every second n-gram of ``MANY``; so that some are known and some are not."""
    backend = get_backend("numpy")
    packed, packing = pack_padded_sequence(MANY.tokens.T, MANY.lengths, backend)
    return known_ngrams(packed, packing, orders, V)[::2]


def some_names(lengths: list[int], padding: int = 0, seed: int = 0) -> Names:
    """Drawn tokens of these lengths, and more of them where names have ended."""
    random = np.random.default_rng(seed)
    shape = (len(lengths), max(lengths) + padding)
    tokens = random.integers(0, V, shape)
    return Names(tokens, np.array(lengths), random.integers(0, C, len(lengths)))


#: Not sorted, with a name of one token, and with padding after the longest.
MANY = some_names([5, 1, 9, 2, 12, 9, 3], padding=2)
#: One longer than the transformer has positions.
LONG = some_names([3, 70, 2])
ONE = some_names([4])
SHORTEST = some_names([1], padding=1)


def bare(path: Path, state: dict[str, NDArray[Any]]) -> Path:
    """A state dict without metadata, as ``safetensors.torch.save_file`` writes it."""
    contiguous = {name: np.ascontiguousarray(value) for name, value in state.items()}
    safetensors.numpy.save_file(contiguous, path)
    return path


def vectorizer_file(folder: Path) -> Path:
    path = folder / "their vectorizer.json"
    SurnameDataset(frame_of(small_rows()), VECTORIZER).save_vectorizer(path)
    return path


def same_bits(first: Classifier, second: Classifier) -> None:
    states = first.model.state_dict(), second.model.state_dict()
    assert list(states[0]) == list(states[1])
    for name, value in states[0].items():
        assert value.tobytes() == states[1][name].tobytes(), name
    assert first.vectorizer.to_serializable() == second.vectorizer.to_serializable()
