"""A stand-in for a device: its arrays refuse to mix with plain NumPy arrays.

What CuPy refuses only where a GPU is, this refuses everywhere: a stray ``np.`` call in a layer,
an operand or an index that was never copied to the backend, a result read without ``to_numpy``.
Like an array on a device, a copy on its way in or out shares no memory, and a single element is
an array without axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend
from npnlp.backend.numpy_backend import NumpyBackend

BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
COMPARISONS = ("lt", "le", "eq", "ne", "gt", "ge", "and", "or", "xor")
UNARY = ("neg", "pos", "abs", "invert")
SCALARS = ("float", "int", "complex")
PLAIN = {int, float, complex, bool, slice, str, type(None), type(...), type}
METHODS = (
    "argmax", "argsort", "astype", "copy", "fill", "max", "mean", "min", "repeat", "reshape", "sum",
    "swapaxes", "take", "transpose",
)  # fmt: skip


class StrictArray:
    """Wraps a NumPy array and computes only with its own kind and with scalars."""

    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, host: NDArray[Any]) -> None:
        self._host = host

    T = property(lambda self: wrap(self._host.T))
    real = property(lambda self: wrap(self._host.real))
    imag = property(lambda self: wrap(self._host.imag))
    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    size = property(lambda self: self._host.size)
    ndim = property(lambda self: self._host.ndim)
    flags = property(lambda self: self._host.flags)
    nbytes = property(lambda self: self._host.nbytes)

    def __len__(self) -> int:
        return len(self._host)

    def __getitem__(self, key: Any) -> Any:
        key = unwrap(key)
        found = self._host[key]
        if isinstance(found, np.generic):  # a view without axes, as on a device
            found = self._host[(*key, ...) if isinstance(key, tuple) else (key, ...)]
        return wrap(found)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[unwrap(key)] = unwrap(value)

    def __array__(self, *arguments: Any, **keywords: Any) -> NoReturn:
        raise TypeError("a strict array does not become a NumPy array; use backend.to_numpy")

    def __array_function__(self, function: Any, *arguments: Any) -> NoReturn:
        raise TypeError(f"numpy.{function.__name__} was called on a strict array; use backend.xp")

    def __iter__(self) -> Iterator[Any]:
        """Rows of a matrix stay where they are, as CuPy's do; elements would be transfers."""
        if self.ndim < 2:
            raise TypeError("a strict array is not walked through: each element is a transfer")
        return iter([wrap(row) for row in self._host])

    def __bool__(self) -> NoReturn:
        raise TypeError("a strict array has no truth value: Python would wait for the device")


def unwrap(value: Any) -> Any:
    """What NumPy may see: strict arrays opened, plain arrays refused."""
    kind = type(value)
    if kind is StrictArray:
        return value._host
    if kind in PLAIN:  # most of the rest, and quickly told
        return value
    if isinstance(value, np.ndarray):
        raise TypeError("a plain NumPy array among strict ones; use backend.asarray")
    if isinstance(value, tuple | list):
        return type(value)(unwrap(item) for item in value)
    return value


def wrap(value: Any) -> Any:
    """A result of NumPy as strict arrays, also where it has no axes."""
    if isinstance(value, np.ndarray | np.generic):
        return StrictArray(np.asarray(value))
    if isinstance(value, tuple | list):
        return type(value)(wrap(item) for item in value)
    return value


def _delegate(name: str, convert: Callable[[Any], Any] = wrap) -> Callable[..., Any]:
    def method(self: StrictArray, *arguments: Any, **keywords: Any) -> Any:
        opened = {key: unwrap(value) for key, value in keywords.items()}
        return convert(getattr(self._host, name)(*unwrap(arguments), **opened))

    return method


def _in_place(name: str) -> Callable[..., Any]:
    def method(self: StrictArray, other: Any) -> StrictArray:
        getattr(self._host, name)(unwrap(other))
        return self

    return method


for _name in METHODS:
    setattr(StrictArray, _name, _delegate(_name))
for _name in BINARY:
    setattr(StrictArray, f"__{_name}__", _delegate(f"__{_name}__"))
    setattr(StrictArray, f"__r{_name}__", _delegate(f"__r{_name}__"))
    setattr(StrictArray, f"__i{_name}__", _in_place(f"__i{_name}__"))
for _name in (*COMPARISONS, *UNARY):
    setattr(StrictArray, f"__{_name}__", _delegate(f"__{_name}__"))
for _name in SCALARS:
    setattr(StrictArray, f"__{_name}__", _delegate(f"__{_name}__", convert=lambda value: value))


class StrictNamespace:
    """The functions of NumPy, for strict arrays and scalars only."""

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(np, name)
        if isinstance(attribute, type) or not callable(attribute):
            return attribute

        def function(*arguments: Any, **keywords: Any) -> Any:
            opened = {key: unwrap(value) for key, value in keywords.items()}
            result = attribute(*unwrap(arguments), **opened)
            return keywords["out"] if keywords.get("out") is not None else wrap(result)

        setattr(self, name, function)  # it is asked for once
        return function


class StrictBackend(Backend):
    """A backend whose arrays are :class:`StrictArray`."""

    name = "strict"

    def __init__(self) -> None:
        self.xp = StrictNamespace()

    def asarray(self, host: NDArray[Any], dtype: Any = None) -> Array:
        if not isinstance(host, np.ndarray | np.generic):
            raise TypeError(f"asarray takes a NumPy array, not {type(host).__name__}")
        return cast("Array", StrictArray(np.array(host, dtype=dtype)))

    def to_numpy(self, array: Array) -> NDArray[Any]:
        given: Any = array
        if not isinstance(given, StrictArray):
            raise TypeError(f"to_numpy takes a strict array, not {type(given).__name__}")
        return given._host.copy()

    def segment_sum(self, values: Array, segments: Array, size: int) -> Array:
        summed = NumpyBackend().segment_sum(unwrap(values), unwrap(segments), size)
        return cast("Array", wrap(summed))

    def keep_memory(self) -> None:
        """Nothing to keep."""

    def synchronize(self) -> None:
        pass

    def describe(self) -> dict[str, str]:
        return {"backend": self.name}
