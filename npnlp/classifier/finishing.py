"""A trained model becomes a classifier: how it reads names, how sure it is, what names are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from npnlp.classifier.calibration import evenly
from npnlp.classifier.classifier import Classifier
from npnlp.classifier.reading import choose_reading
from npnlp.classifier.temperature import calibrate
from npnlp.models import SurnameClassifier
from npnlp.text import SplitArrays, SurnameDataset
from npnlp.text.familiarity import Familiarity
from npnlp.text.ngram_tree import MOST_TOKENS

#: At most this many rows held out are looked at, and kept with a model.
KEPT = 20_000
#: How names are read is chosen by at most this many of them.
READ = 5_000


def finish(
    dataset: SurnameDataset,
    model: SurnameClassifier,
    held: str,
    *,
    temperature: bool = True,
    half: bool = False,
    weights: NDArray[np.float64] | None = None,
) -> Classifier:
    """The classifier of a trained model; ``held`` is the split that its choices are made by.

    That is the letter case and the parts that names are read in, the temperature (unless it is not
    wanted, or ``held`` is "train", which says nothing about it) and the least familiar names.
    ``weights`` are those of the rows of ``held``; for ``half`` see :func:`calibrate`. Of more rows
    than :data:`KEPT` that many are looked at, evenly spaced: to choose takes no more.
    """
    places = dataset.rows.places(held)
    kept = evenly(len(places), KEPT)
    choose_reading(dataset, model, places[evenly(len(places), READ)])
    rows, calibration = dataset.encoded(places[kept]), None
    if temperature and held != "train":
        own = None if weights is None else weights[kept]
        calibration = calibrate(model, replace(rows, weights=own), half=half)
    familiarity = _familiarity(dataset.arrays("train"), rows, model.config.num_embeddings)
    vectorizer, table = dataset.get_vectorizer(), dataset.table
    return Classifier(model, vectorizer, table, calibration, familiarity)


def _familiarity(train: SplitArrays, held: SplitArrays, num_tokens: int) -> Familiarity | None:
    """None where there are too many characters for it, or no names."""
    if num_tokens >= MOST_TOKENS or not len(train) or not len(held):
        return None
    made = Familiarity.of(train.tokens, train.lengths, num_tokens, train.targets)
    made.calibrate(held.tokens, held.lengths)
    return made
