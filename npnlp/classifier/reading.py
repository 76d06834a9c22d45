"""The letter case that a trained model reads names in, chosen by the rows that it was held to."""

from __future__ import annotations

from npnlp.classifier.classifier import Classifier
from npnlp.models import SurnameClassifier
from npnlp.text import SurnameDataset
from npnlp.text.letter_case import AS_WRITTEN, choose_letter_case


def choose_reading(dataset: SurnameDataset, model: SurnameClassifier, split: str) -> None:
    """Let ``dataset`` read names in the letter case that ``split`` speaks for.

    See :func:`npnlp.text.letter_case.choose_letter_case`.
    """
    dataset.set_letter_case(AS_WRITTEN)
    frame, vectorizer = dataset.frames[split], dataset.get_vectorizer()
    classifier, labels = Classifier(model, vectorizer), vectorizer.nationality_vocab.tokens

    def predict(names: list[str]) -> list[str]:
        return [labels[place] for place in classifier.best(names)[0][:, 0]]

    names = vectorizer.as_read(frame["surname"])
    dataset.set_letter_case(choose_letter_case(names, list(frame["nationality"]), predict))
