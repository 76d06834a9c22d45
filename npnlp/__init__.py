"""Recurrent networks for text with every gradient written by hand, on NumPy or CuPy."""

from typing import TYPE_CHECKING, Any

from npnlp.backend import get_backend
from npnlp.errors import DeviceError, DivergenceError, InputError
from npnlp.gradients import check_adjoint, check_gradients, jacobians
from npnlp.training.classifier import Classifier
from npnlp.version import __version__

if TYPE_CHECKING:
    from npnlp.training.estimator import SurnameClassifierEstimator

__all__ = [
    "Classifier",
    "DeviceError",
    "DivergenceError",
    "InputError",
    "SurnameClassifierEstimator",
    "__version__",
    "check_adjoint",
    "check_gradients",
    "get_backend",
    "jacobians",
]


def __getattr__(name: str) -> Any:
    if name == "SurnameClassifierEstimator":  # the trainer comes with it: only when asked for
        from npnlp.training.estimator import SurnameClassifierEstimator

        return SurnameClassifierEstimator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
