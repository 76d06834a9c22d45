"""Recurrent networks for text with every gradient written by hand, on NumPy or CuPy.

What it exports is imported when it is asked for: the command has to be there before NumPy is.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from npnlp.errors import DeviceError, DivergenceError, InputError
from npnlp.version import __version__

if TYPE_CHECKING:
    from npnlp.backend import get_backend
    from npnlp.classifier.classifier import Classifier
    from npnlp.estimator.estimator import SurnameClassifierEstimator
    from npnlp.gradients import check_adjoint, check_gradients, jacobians

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

_HOMES = {
    "Classifier": "npnlp.classifier.classifier",
    "SurnameClassifierEstimator": "npnlp.estimator.estimator",
    "check_adjoint": "npnlp.gradients",
    "check_gradients": "npnlp.gradients",
    "get_backend": "npnlp.backend",
    "jacobians": "npnlp.gradients",
}
_PARTS = ("backend", "files", "gradients", "layers", "models", "text", "training")


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"npnlp.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
