"""Models: a list of layers and, reversed, their backward pass."""

from npnlp.models.sequence_model import SequenceConfig, SequenceModel
from npnlp.models.surname_classifier import ClassifierConfig, SurnameClassifier

__all__ = ["ClassifierConfig", "SequenceConfig", "SequenceModel", "SurnameClassifier"]
