"""Models: layers in a row and, in reverse order, their backward passes."""

from npnlp.models.classifier_config import ClassifierConfig
from npnlp.models.encoder import MODEL_CELLS, Encoder, EncoderConfig
from npnlp.models.sequence_model import SequenceConfig, SequenceModel
from npnlp.models.surname_classifier import SurnameClassifier

__all__ = [
    "MODEL_CELLS",
    "ClassifierConfig",
    "Encoder",
    "EncoderConfig",
    "SequenceConfig",
    "SequenceModel",
    "SurnameClassifier",
]
