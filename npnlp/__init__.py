"""Recurrent networks for text with every gradient written by hand, on NumPy or CuPy.

A layer computes ``forward(x) -> (y, cache)`` and ``backward(dy, cache) -> dx``; the gradients of
its parameters are added to ``layer.grads``. A tour:

>>> import numpy as np
>>> import npnlp
>>> from npnlp.layers import Elman, Packing

Two sequences, of 4 and 2 steps with 3 features each, packed into 6 rows without padding:

>>> layer = Elman(3, 5, dtype=np.float64)
>>> layer
<Elman input_size=3, hidden_size=5, nonlinearity='tanh', float64, 50 parameters>
>>> packing = Packing.of(np.array([4, 2]), layer.backend)
>>> x = np.cos(np.arange(18.0)).reshape(6, 3)
>>> (hidden, h_last), cache = layer.forward(x, packing=packing)
>>> hidden.shape, h_last.shape
((6, 5), (2, 5))

Backpropagation through time, from the gradient of the last states; a probe sees every step of it,
and the gradient flow says how much gradient arrives 0, 1, 2 and 3 steps before the last:

>>> traces = []
>>> dx, _ = layer.backward((None, np.ones((2, 5))), cache, probe=traces.append)
>>> layer.grads["weight_hh_l0"].shape
(5, 5)
>>> arriving = npnlp.gradient_flow(traces[0]).table()[:, 1]
>>> bool((arriving[:-1] > arriving[1:]).all())
True

Is that the derivative? Complex steps say so to 12 digits. The chain rule's product of Jacobians,
``dh_T/dh_0``, explains why so little gradient arrives:

>>> npnlp.check_gradients(layer, x, packing=packing).passed
True
>>> npnlp.jacobians(layer, x).singular_values().shape
(7, 5)

``npnlp train`` on the command line trains a classifier of names; in Python,
``Classifier.load("model.safetensors").predict(["Nakamoto"])`` uses it, with
``decision=Decision(precision=0.95)`` only where it is sure enough, and
``SurnameClassifierEstimator().fit(names, labels)`` trains one as scikit-learn does, and
``npnlp.train("table.csv", seeds=5)`` five, side by side, with mean and interval of every score.
What is wrong with an argument or a file is said by :class:`InputError`.

Names are imported when they are first used: ``import npnlp`` alone loads not even NumPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from npnlp.errors import DeviceError, DivergenceError, InputError
from npnlp.version import __version__

if TYPE_CHECKING:
    from npnlp.backend import get_backend
    from npnlp.classifier.classifier import Classifier
    from npnlp.classifier.decision import Decision
    from npnlp.estimator.estimator import SurnameClassifierEstimator
    from npnlp.gradients import check_adjoint, check_gradients, gradient_flow, jacobians
    from npnlp.runs.training import train

__all__ = [
    "Classifier",
    "Decision",
    "DeviceError",
    "DivergenceError",
    "InputError",
    "SurnameClassifierEstimator",
    "__version__",
    "check_adjoint",
    "check_gradients",
    "get_backend",
    "gradient_flow",
    "jacobians",
    "train",
]

#: The module that each name is imported from when it is first used.
_HOMES = {
    "Classifier": "npnlp.classifier.classifier",
    "Decision": "npnlp.classifier.decision",
    "SurnameClassifierEstimator": "npnlp.estimator.estimator",
    "check_adjoint": "npnlp.gradients",
    "check_gradients": "npnlp.gradients",
    "get_backend": "npnlp.backend",
    "gradient_flow": "npnlp.gradients",
    "jacobians": "npnlp.gradients",
    "train": "npnlp.runs.training",
}
#: The packages that are imported when they are first used.
_PACKAGES = (
    "backend", "classifier", "errors", "estimator", "exchange", "files", "gradients", "inference",
    "layers", "models", "runs", "text", "training",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"npnlp.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    special = (name for name in globals() if name.startswith("__"))
    return sorted({*special, *__all__, *_PACKAGES})
