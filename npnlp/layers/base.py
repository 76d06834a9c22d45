"""What all layers share: named parameters, named gradients, a backend and a dtype."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypedDict, dataclass_transform

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend, Random, get_backend
from npnlp.summary import brief, changed_fields, nbytes, one_line, summary


class LayerOptions(TypedDict, total=False):
    """The keyword arguments of :class:`Layer`, which every layer takes."""

    backend: Backend | None
    dtype: Any
    random: Random | None


@dataclass_transform(frozen_default=True, eq_default=False)
class Cache:
    """What a forward pass remembers for its backward pass.

    A subclass lists the fields and becomes a frozen dataclass of them. Its ``repr`` shows dtypes
    and shapes of arrays, not their numbers.
    """

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, eq=False, repr=False)(cls)

    @property
    def nbytes(self) -> int:
        """Bytes of all its arrays."""
        return nbytes(self)

    def __repr__(self) -> str:
        return summary(self)


class Layer:
    """A function with parameters that knows its own derivative.

    ``parameters[name]`` and ``grads[name]`` have the same shape; ``backward`` adds into ``grads``.
    ``random`` is the stream that initial weights are drawn from. ``dtype`` is float32 for training,
    float64 for checks, complex128 for complex steps.
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
        """Add a parameter whose initial value is drawn from the random stream of that name."""
        host = np.ascontiguousarray(draw(self.random.child(name)).astype(self.dtype))
        self.parameters[name] = self.backend.asarray(host)
        self.grads[name] = self.backend.zeros(host.shape, self.dtype)

    def zero_grads(self) -> None:
        """Set all gradients to zero."""
        for grad in self.grads.values():
            grad[...] = 0

    def astype(self, dtype: Any) -> Self:
        """A copy with parameters of another dtype and with gradients of zero."""
        twin = copy.copy(self)
        twin.dtype = np.dtype(dtype)
        twin.parameters = {name: value.astype(dtype) for name, value in self.parameters.items()}
        twin.grads = {
            name: self.backend.zeros(value.shape, dtype) for name, value in self.parameters.items()
        }
        return twin

    def __repr__(self) -> str:
        return one_line(type(self).__name__, [*self._settings(), *self._size()])

    def _settings(self) -> list[str]:
        """``name=value`` of each argument that the layer was made with and keeps."""
        options = LayerOptions.__annotations__
        names = [name for name in inspect.signature(type(self)).parameters if name not in options]
        values = {name: getattr(self, name, None) for name in names}
        found = []
        for name, value in values.items():
            if name == "config":
                found += changed_fields(value)
            elif not (value is None or value is False or isinstance(value, Layer)):
                found.append(f"{name}={brief(value)}")
        return found

    def _size(self) -> list[str]:
        count = sum(value.size for value in self.parameters.values())
        return [self.dtype.name, *([f"{count:,} parameters"] if count else [])]


def uniform_fan(shape: tuple[int, ...], fan: int) -> Callable[[Random], NDArray[Any]]:
    """Weights uniform in ``+-1/sqrt(fan)``, PyTorch's default for Linear and recurrent layers."""
    bound = 1.0 / np.sqrt(fan)
    return lambda random: random.uniform(shape, -bound, bound)
