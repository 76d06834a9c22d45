"""What all layers share: named parameters, named gradients, a backend and a dtype."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend, Random, get_backend


class LayerOptions(TypedDict, total=False):
    """The keywords that every layer takes and hands on to :class:`Layer`."""

    backend: Backend | None
    dtype: Any
    random: Random | None


class Layer:
    """A function with parameters that knows its own derivative.

    ``parameters[name]`` and ``grads[name]`` have the same shape; ``backward`` adds into ``grads``.

    ``random`` is the stream that initial weights are drawn from; a layer with no parameters
    ignores it. ``dtype`` is float32 for work, float64 for checks, complex128 for complex steps.
    """

    def __init__(
        self,
        *,
        backend: Backend | None = None,
        dtype: Any = np.float32,
        random: Random | None = None,
    ) -> None:
        self.backend = backend or get_backend("numpy")
        self.dtype = np.dtype(dtype)
        self.random = random or Random(0)
        self.parameters: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}

    def add_parameter(self, name: str, draw: Callable[[Random], NDArray[Any]]) -> None:
        """Register a parameter whose first value is drawn from the stream of its own name."""
        host = np.ascontiguousarray(draw(self.random.child(name)).astype(self.dtype))
        self.parameters[name] = self.backend.asarray(host)
        self.grads[name] = self.backend.zeros(host.shape, self.dtype)

    def zero_grads(self) -> None:
        """Set all gradients to zero."""
        for grad in self.grads.values():
            grad[...] = 0

    def astype(self, dtype: Any) -> Self:
        """A copy of this layer with parameters of another dtype and gradients of zero."""
        twin = copy.copy(self)
        twin.dtype = np.dtype(dtype)
        twin.parameters = {name: value.astype(dtype) for name, value in self.parameters.items()}
        twin.grads = {
            name: self.backend.zeros(value.shape, dtype) for name, value in self.parameters.items()
        }
        return twin


def uniform_fan(shape: tuple[int, ...], fan: int) -> Callable[[Random], NDArray[Any]]:
    """Weights uniform in ``+-1/sqrt(fan)``, PyTorch's default for Linear and recurrent layers."""
    bound = 1.0 / np.sqrt(fan)
    return lambda random: random.uniform(shape, -bound, bound)
