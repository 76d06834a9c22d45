"""Recurrent networks for text with every gradient written by hand, on NumPy or CuPy."""

from npnlp.backend import get_backend
from npnlp.errors import DeviceError, DivergenceError, InputError
from npnlp.gradients import check_adjoint, check_gradients, jacobians
from npnlp.training.classifier import Classifier
from npnlp.version import __version__

__all__ = [
    "Classifier",
    "DeviceError",
    "DivergenceError",
    "InputError",
    "__version__",
    "check_adjoint",
    "check_gradients",
    "get_backend",
    "jacobians",
]
