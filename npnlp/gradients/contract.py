"""What a layer promises besides right gradients, and who breaks it.

Forward and backward change nothing that they are given: inputs, ``dy``, the cache, parameters.
Forward draws nothing at random but from a stream that it is given. Backward *adds* into the arrays
of ``grads``, one for each parameter, and returns one gradient for each input, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend
from npnlp.backend.operations import LookedUp
from npnlp.errors import InputError
from npnlp.gradients.variables import (
    array_of,
    as_tuple,
    backend_of,
    copied,
    host,
    is_floating,
    seeds,
)
from npnlp.summary import arrays_in, summarized

#: Two passes over the same numbers may differ by this much, relative to the largest.
SAME = 1e-13
NEEDED = ("parameters", "grads", "forward", "backward", "astype")


class Differentiable(Protocol):
    """What a check needs of an object; every :class:`npnlp.layers.Layer` has it.

    A layer that is not for NumPy has its ``backend``, too.
    """

    parameters: dict[str, Array]
    grads: dict[str, Array]

    @property
    def forward(self) -> Callable[..., tuple[Any, Any]]:
        """``forward(*inputs, **keywords) -> (y, cache)``; y an array or a tuple of arrays."""

    @property
    def backward(self) -> Callable[..., Any]:
        """``backward(dy, cache)`` -> the gradient of the input, or a tuple for several inputs."""

    def astype(self, dtype: Any) -> Self:
        """A copy in another dtype."""


@summarized
@dataclass
class Observed:
    """The gradients of one backward pass by the names of :func:`variables`, None where it gave
    None; ``breaches`` of the contract; the number of the gradients returned that were not None.
    """

    gradients: dict[str, NDArray[Any] | None] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)
    returned: tuple[bool, ...] = ()


def require_layer(layer: Any) -> None:
    """Raise :class:`InputError` naming what ``layer`` lacks."""
    missing = [name for name in NEEDED if not hasattr(layer, name)]
    if missing:
        raise InputError(
            f"{type(layer).__name__} has no {' and no '.join(missing)}; a layer to be checked has "
            f"{', '.join(NEEDED)}"
        )


def in_dtype(layer: Differentiable, dtype: Any) -> Any:
    """A copy by the layer's own ``astype``; raises :class:`InputError` where it is none."""
    twin = layer.astype(dtype)
    if twin is layer:
        raise InputError(f"{type(layer).__name__}.astype returns the layer itself, not a copy")
    for name, value in twin.parameters.items():
        if value.dtype != dtype:
            raise InputError(
                f"{type(layer).__name__}.astype({np.dtype(dtype)}) left parameter {name} in "
                f"{value.dtype}"
            )
    return twin


def forward_of(layer: Any, inputs: list[Any], keywords: dict[str, Any]) -> tuple[Any, Any]:
    """``(y, cache)``; raises :class:`InputError` where it is something else."""
    found = layer.forward(*inputs, **keywords)
    if not isinstance(found, tuple) or len(found) != 2:
        raise InputError(f"{type(layer).__name__}.forward has to return (y, cache)")
    return found


def observe(layer: Differentiable, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Observed:
    """Run the layer forward twice and backward twice, in float64 on copies, and watch it."""
    backend, double = backend_of(layer), in_dtype(layer, np.float64)
    values = [copied(value, backend, np.float64) for value in inputs]
    watched = _Watched(backend, double, values)
    outputs, cache = forward_of(double, values, keywords)
    watched.note("forward")
    kept = [host(y, backend) for y in as_tuple(outputs)]
    again, _ = forward_of(double, values, keywords)
    found = Observed(breaches=watched.breaches)
    if not all(map(_close, (host(y, backend) for y in as_tuple(again)), kept)):
        found.breaches.append(
            "two forward passes on the same inputs differ: draw random numbers only from a stream "
            "that is given, such as npnlp.backend.Random, and keep nothing between calls"
        )
    for grad in double.grads.values():
        grad[...] = 0
    watched.add("its cache", [part for each in arrays_in(cache) for part in _parts(each)])
    first = _backward(double, outputs, cache, values, watched)
    second = _backward(double, outputs, cache, values, watched)
    found.gradients, found.returned = first
    found.breaches += _differences(first[0], second[0], set(double.grads))
    found.breaches += _surplus(double, values, found.returned)
    return found


class _Watched:
    """Arrays that nothing may change, with copies of what they were."""

    def __init__(self, backend: Backend, layer: Differentiable, inputs: list[Any]) -> None:
        self.backend, self.layer, self.breaches = backend, layer, list[str]()
        self.arrays: list[tuple[str, Array, NDArray[Any]]] = []
        self.grads = dict(layer.grads)
        for name, value in layer.parameters.items():
            self.add(f"parameter {name}", [value])
        for position, given in enumerate(inputs):
            self.add(f"input {position}", _parts(given) if hasattr(given, "dtype") else [])

    def add(self, what: str, arrays: list[Array]) -> None:
        """From now on, watch these too."""
        self.arrays += [(what, array, host(array, self.backend)) for array in arrays]

    def note(self, who: str) -> None:
        """Say what ``who`` changed, once."""
        left = []
        for what, array, before in self.arrays:
            now = host(array, self.backend)
            if now.tobytes() == before.tobytes():
                left.append((what, array, before))
            else:
                self._say(f"{who} changes {what} in place; work on a copy of it")
        self.arrays = left
        for name, grad in self.grads.items():
            if self.layer.grads.get(name) is not grad:
                self._say(
                    f"{who} puts another array into grads[{name!r}]; add to the one that is there, "
                    "in place: whoever holds that one waits in vain"
                )

    def _say(self, breach: str) -> None:
        if breach not in self.breaches:
            self.breaches.append(breach)


Found = tuple[dict[str, NDArray[Any] | None], tuple[bool, ...]]


def _backward(layer: Any, outputs: Any, cache: Any, inputs: list[Any], watched: _Watched) -> Found:
    """Copies of the gradients, and which of those returned are not None."""
    dy = seeds(outputs, watched.backend)
    watched.add("dy", list(as_tuple(dy)))
    returned = as_tuple(layer.backward(dy, cache))
    watched.note("backward")
    found = collected(layer, inputs, returned, watched.backend)
    return found, tuple(gradient is not None for gradient in returned)


def collected(
    layer: Any, inputs: Sequence[Any], returned: tuple[Any, ...], backend: Backend
) -> dict[str, NDArray[Any] | None]:
    """Copies of the gradients, by the names of :func:`variables`."""
    found: dict[str, NDArray[Any] | None] = {
        name: host(grad, backend) for name, grad in layer.grads.items()
    }
    for position, value in enumerate(inputs):
        if is_floating(value):
            gradient = returned[position] if position < len(returned) else None
            found[f"input {position}"] = None if gradient is None else host(gradient, backend)
    return found


def _differences(
    first: dict[str, NDArray[Any] | None], second: dict[str, NDArray[Any] | None], grads: set[str]
) -> Iterator[str]:
    """What a second backward pass does otherwise than the first."""
    for name, before in first.items():
        after = second[name]
        if before is None or after is None:
            if before is not after:
                yield f"only one of two backward passes returns a gradient of {name}"
        elif name not in grads:
            if not _close(after, before):
                yield (
                    f"a second backward pass returns another gradient of {name}: it has to leave "
                    "its cache as it is, and to keep nothing between calls"
                )
        elif not _close(after, 2 * before):
            yield (
                f"a second backward pass does not add the same to grads[{name!r}] again: add with "
                "+=, do not set, and leave the cache as it is"
            )


def _surplus(layer: Any, inputs: list[Any], returned: tuple[bool, ...]) -> Iterator[str]:
    """Gradients of nothing."""
    if any(returned[len(inputs) :]):
        yield (
            f"backward returns {len(returned)} gradients for {len(inputs)} inputs; return one for "
            "each, in their order"
        )
    for name in layer.grads:
        if name not in layer.parameters:
            yield f"grads[{name!r}] belongs to no parameter; name it as the parameter is named"


def _parts(value: Any) -> list[Array]:
    return [array_of(value), value.tokens] if isinstance(value, LookedUp) else [value]


def _close(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Whether two arrays differ by rounding at most."""
    if found.shape != expected.shape:
        return False
    scale = np.nan_to_num(np.abs(expected), nan=0, posinf=0).max(initial=0)
    return bool(np.allclose(found, expected, rtol=0, atol=SAME * scale, equal_nan=True))
