"""Trainers of a few names, and what they have come to: for tests of captured steps."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random
from npnlp.classifier.batches import ngrams_of
from npnlp.diagnosis.finding import examine
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SplitArrays, SurnameDataset, own_table_path
from npnlp.training.config import TrainingConfig
from npnlp.training.trainer import Trainer

BATCH, NAMES = 16, 58  # three whole batches and one of 10


@lru_cache(maxsize=2)
def some_names(count: int = NAMES) -> tuple[ClassifierConfig, SplitArrays]:
    """A small configuration, and names of all nationalities."""
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(own_table_path())
    vectorizer = dataset.get_vectorizer()
    sizes = len(vectorizer.char_vocab), len(vectorizer.nationality_vocab)
    split = dataset.arrays("val")
    some = np.linspace(0, len(split) - 1, count).astype(int)
    part = [getattr(split, name)[some] for name in ("starts", "lengths", "targets")]
    config = ClassifierConfig(*sizes, embedding_size=6, rnn_hidden_size=8)
    return config, SplitArrays(split.tokens, *part)


def make_trainer(
    backend: Any, shape: dict[str, Any], training: dict[str, Any], weights: Any = None,
    dtype: Any = np.float32, split: SplitArrays | None = None,
) -> Trainer:  # fmt: skip
    """A trainer with these fields of the model's and the training's configuration.

    With ``ngram_orders`` the n-grams of the names are known; with ``class_weights`` there are some.
    """
    small, names = some_names()
    split = names if split is None else split
    keys = np.empty(0, dtype=np.int64)
    if orders := shape.get("ngram_orders"):
        keys = ngrams_of(split, orders, small.num_embeddings, shape.get("ngram_min_count", 1))
    config = replace(small, **shape, num_ngrams=len(keys))
    model = SurnameClassifier(config, backend=backend, dtype=dtype, random=Random(1, "model"))
    if model.ngrams is not None:
        model.ngrams.keys = model.backend.asarray(keys)
    settings = TrainingConfig(**({"num_epochs": 3, "seed": 1, "batch_size": BATCH} | training))
    if settings.class_weights != "none" and weights is None:
        weights = np.linspace(0.5, 2, config.num_classes)
    return Trainer(model, split, split, settings, weights, examine=examine)


def everything(trainer: Trainer) -> dict[str, Any]:
    """All that a trainer has come to."""
    tensors, values = trainer.state()
    return {name: tensor.copy() for name, tensor in tensors.items()} | values


def equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, other[name], err_msg=name)
        elif name == "progress":  # but for how long it took
            assert untimed(value) == untimed(other[name])
        else:
            assert value == other[name], name


def untimed(progress: dict[str, Any]) -> dict[str, Any]:
    rows = [
        {name: value for name, value in row.items() if "second" not in name}
        for row in progress["history"]
    ]
    return progress | {"history": rows}


def launched_one_by_one(trainer: Trainer) -> Trainer:
    """The same launches, but never captured."""
    assert trainer.captured is not None
    graphs = trainer.captured.graphs
    graphs.run = lambda key, work: graphs._launched(work)
    return trainer


class Stop(Exception):
    """Raised in the middle of an epoch."""


def stop_after(trainer: Trainer, batch: int) -> None:
    def on_batch() -> None:
        if trainer.progress.batch == batch:
            raise Stop

    with pytest.raises(Stop):
        trainer.run_epoch(on_batch)


def epoch_order(trainer: Trainer) -> Any:
    return trainer.order_of(trainer.progress.epoch)
