"""Forward without what backward needs: many sequences as a tree of prefixes, one as a chain."""

from npnlp.inference.compiled import CompiledPredictor, make_predictor, predict_one
from npnlp.inference.predictor import TreePredictor, can_predict, largest, most_probable

__all__ = [
    "CompiledPredictor",
    "TreePredictor",
    "can_predict",
    "largest",
    "make_predictor",
    "most_probable",
    "predict_one",
]
