"""What all layers share: named parameters, named gradients, a backend and a dtype."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Self, TypedDict, dataclass_transform

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend, Random, as_backend
from npnlp.backend.operations import LookedUp
from npnlp.errors import InputError, short
from npnlp.layers.arguments import require_array, require_indices, require_rows
from npnlp.layers.packing import Packing
from npnlp.summary import brief, changed_fields, nbytes, one_line, summary


class LayerOptions(TypedDict, total=False):
    """The keyword arguments of :class:`Layer`, which every layer takes."""

    backend: Backend | str | None
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
    float64 for checks, complex128 for complex steps. ``backend`` may be given by its name.

    ``forward`` and ``backward`` raise :class:`InputError` for an array of another shape or dtype
    than they are said to take, for an index out of range, and for a cache of another layer: each
    first calls ``check_forward`` or ``check_backward`` with its arguments, where a layer says what
    it expects. ``run`` and ``undo`` are the two without that, for a model that has checked already.
    """

    run: Any
    undo: Any

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, unchecked in (("forward", "run"), ("backward", "undo")):
            own = vars(cls).get(name)
            if own is not None and not getattr(own, "__isabstractmethod__", False):
                setattr(cls, unchecked, own)
                setattr(cls, name, _checked(own, f"check_{name}"))

    def __init__(
        self,
        *,
        backend: Backend | str | None = None,
        dtype: Any = np.float32,
        random: Random | None = None,
    ) -> None:
        self.backend = as_backend(backend)
        self.dtype = floating(dtype)
        self.random = random or Random(0)
        self.parameters: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}

    def add_parameter(self, name: str, draw: Callable[[Random], NDArray[Any]]) -> None:
        """Add a parameter whose initial value is drawn from the random stream of that name."""
        host = np.ascontiguousarray(draw(self.random.child(name)).astype(self.dtype))
        self.parameters[name] = self.backend.asarray(host)
        self.grads[name] = self.backend.zeros(host.shape, self.dtype)

    def check_forward(self, *inputs: Any, **options: Any) -> None:
        """Raise :class:`InputError` for what ``forward`` cannot take; a layer says what that is."""

    def check_backward(self, *gradients: Any, **options: Any) -> None:
        """The same for ``backward``."""

    def expect(self, name: str, array: Any, *shape: Any) -> None:
        """Raise :class:`InputError` unless ``array`` has this shape and the layer's dtype.

        Of ``shape``, None is any size, and a first ``...`` any axes. A layer without parameters
        takes any real numbers.
        """
        require_array(name, array, shape, self.dtype, exact=bool(self.parameters))

    def expect_rows(self, x: Any, packing: Packing, features: int) -> None:
        """Raise :class:`InputError` unless ``x`` is ``(N, features)``, or a LookedUp of N."""
        if not isinstance(x, LookedUp):
            require_rows(x, packing)
            self.expect("x", x, packing.rows, features)
            return
        require_rows(x.tokens, packing)
        self.expect("table", x.table, None, features)
        require_indices("tokens", x.tokens, packing.rows, len(x.table), self.backend)

    def zero_grads(self) -> None:
        """Set all gradients to zero."""
        for grad in self.grads.values():
            grad[...] = 0

    def astype(self, dtype: Any) -> Self:
        """A copy with parameters of another dtype and with gradients of zero."""
        twin = copy.copy(self)
        twin.dtype = floating(dtype)
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


def _checked(own: Callable[..., Any], check: str) -> Callable[..., Any]:
    """``own``, a method, with the method called ``check`` before it."""

    @wraps(own)
    def method(self: Layer, *arguments: Any, **options: Any) -> Any:
        getattr(self, check)(*arguments, **options)
        return own(self, *arguments, **options)

    return method


def floating(dtype: Any) -> np.dtype[Any]:
    """``dtype`` in this machine's byte order; :class:`InputError` unless of real or complex."""
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if found.kind not in "fc":
        raise InputError(
            f"dtype is {short(dtype)}; it has to be one of real or complex numbers, such as float32"
        )
    return found if found.isnative else found.newbyteorder("=")


def uniform_fan(shape: tuple[int, ...], fan: int) -> Callable[[Random], NDArray[Any]]:
    """Weights uniform in ``+-1/sqrt(fan)``, PyTorch's default for Linear and recurrent layers."""
    bound = 1.0 / np.sqrt(fan)
    return lambda random: random.uniform(shape, -bound, bound)
