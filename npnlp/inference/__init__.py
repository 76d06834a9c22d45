"""Forward without what backward needs: many sequences as a tree of prefixes, one as a chain."""

from npnlp.inference.compiled import CompiledPredictor, make_predictor
from npnlp.inference.predictor import can_predict
from npnlp.inference.trees import TreePredictor, largest, predict_one

__all__ = [
    "CompiledPredictor",
    "TreePredictor",
    "can_predict",
    "largest",
    "make_predictor",
    "predict_one",
]
