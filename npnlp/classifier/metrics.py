"""How good predictions are, from the confusion matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(
    targets: NDArray[np.int64], predictions: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """``(C, C)``: row, the true class; column, the predicted one."""
    return np.bincount(targets * classes + predictions, minlength=classes**2).reshape(
        classes, classes
    )


def scores(confusion: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy, balanced accuracy and macro F1, as fractions.

    ``balanced_accuracy`` is the mean recall of the classes that occur; ``macro_f1`` the mean of
    ``2 tp / (2 tp + fp + fn)`` of the classes that occur or are predicted. Both are
    scikit-learn's.
    """
    hits = np.diag(confusion)
    true, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    occurs, involved = true > 0, (true + predicted) > 0
    return {
        "accuracy": float(hits.sum() / confusion.sum()),
        "balanced_accuracy": float((hits[occurs] / true[occurs]).mean()),
        "macro_f1": float((2 * hits[involved] / (true + predicted)[involved]).mean()),
    }
