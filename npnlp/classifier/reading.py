"""How a trained model reads names, chosen by the rows that it was held to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npnlp.classifier.classifier import Classifier
from npnlp.models import SurnameClassifier
from npnlp.text import SurnameDataset
from npnlp.text.letter_case import AS_WRITTEN, choose_letter_case
from npnlp.text.parts import AS_A_WHOLE, SplitAt, choose_split_at


def choose_reading(
    dataset: SurnameDataset, model: SurnameClassifier, held: NDArray[np.int64]
) -> None:
    """Let ``dataset`` read names in the letter case, and in the parts, that its rows ``held`` speak
    for.

    See :func:`npnlp.text.letter_case.choose_letter_case` and
    :func:`npnlp.text.parts.choose_split_at`.
    """
    dataset.set_letter_case(AS_WRITTEN)
    rows, vectorizer = dataset.rows.take(held), dataset.get_vectorizer()
    classifier, tokens = Classifier(model, vectorizer), vectorizer.nationality_vocab.tokens

    def predict(names: list[str], split_at: SplitAt = AS_A_WHOLE) -> list[str]:
        vectorizer.split_at = split_at
        return [tokens[place] for place in classifier.best(names)[0][:, 0]]

    names, labels = vectorizer.as_read(rows.names), list(rows.labels)
    dataset.set_letter_case(choose_letter_case(names, labels, predict))
    vectorizer.split_at = choose_split_at(names, labels, predict)
