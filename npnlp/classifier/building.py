"""A classifier for a dataset, whose sizes come from the vocabularies, and its loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Backend, Random
from npnlp.classifier.batches import ngrams_of
from npnlp.errors import InputError
from npnlp.layers import SoftmaxCrossEntropy
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SurnameDataset

#: What the data decides; the other fields of :class:`ClassifierConfig` are for the user to choose.
DECIDED = ("num_embeddings", "num_classes", "padding_idx", "unk_idx", "num_ngrams")


def model_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of ``given`` that :func:`make_classifier` takes."""
    names = {field.name for field in fields(ClassifierConfig)} - set(DECIDED)
    return {name: value for name, value in given.items() if name in names}


def make_criterion(
    model: SurnameClassifier, class_weights: NDArray[np.floating] | None = None
) -> SoftmaxCrossEntropy:
    """The loss of ``model``, with a weight ``(C,)`` for each class, if there are any."""
    backend, dtype = model.backend, model.dtype
    weights = None if class_weights is None else backend.asarray(class_weights, dtype=dtype)
    return SoftmaxCrossEntropy(weights, ignore_index=None, backend=backend, dtype=dtype)


def make_classifier(
    dataset: SurnameDataset, settings: Mapping[str, Any], backend: Backend, seed: int
) -> SurnameClassifier:
    """An untrained model; ``settings`` are fields of :class:`ClassifierConfig`.

    Raises :class:`InputError` where a bag of n-grams would be empty.
    """
    vectorizer = dataset.get_vectorizer()
    characters = vectorizer.char_vocab
    orders = settings.get("ngram_orders", ())
    least = settings.get("ngram_min_count", 1)
    keys = ngrams_of(dataset.arrays("train"), orders, len(characters), least)
    if orders and not len(keys):
        raise InputError(
            f"num_ngrams is 0: no n-gram of orders {list(orders)} is in {least} or more names "
            "of train; choose shorter ones, or a smaller ngram_min_count"
        )
    config = ClassifierConfig(
        num_embeddings=len(characters),
        num_classes=len(vectorizer.nationality_vocab),
        padding_idx=characters.mask_index,
        unk_idx=characters.unk_index,
        num_ngrams=len(keys),
        **settings,
    )
    model = SurnameClassifier(config, backend=backend, random=Random(seed, "model"))
    if model.ngrams is not None:
        model.ngrams.keys = backend.asarray(keys)
    return model
