"""Models: a list of layers and, reversed, their backward pass."""

from npnlp.models.surname_classifier import CELLS, ClassifierConfig, SurnameClassifier

__all__ = ["CELLS", "ClassifierConfig", "SurnameClassifier"]
