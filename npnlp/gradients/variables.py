"""What a check nudges and what it adds up: a layer's variables, and the scalar of its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend, Random, get_backend
from npnlp.backend.operations import LookedUp


def backend_of(layer: Any) -> Backend:
    """The layer's backend; NumPy for a layer that names none."""
    return getattr(layer, "backend", None) or get_backend("numpy")


def variables(layer: Any, inputs: Sequence[Any]) -> Iterator[tuple[str, Array]]:
    """Parameters and floating inputs, by name; of rows looked up in a table, the table."""
    yield from layer.parameters.items()
    for position, value in enumerate(inputs):
        if is_floating(value):
            yield f"input {position}", array_of(value)


def seeds(outputs: Any, backend: Backend) -> Any:
    """``dL/dy = w`` of ``L = sum(w * y)``: an array, or a tuple where ``outputs`` is one."""
    several = isinstance(outputs, tuple)
    found = tuple(
        backend.asarray(Random(0, f"seed.{position}").uniform(y.shape, 0.5, 1.5))
        for position, y in enumerate(outputs if several else (outputs,))
    )
    return found if several else found[0]


def scalar(outputs: Any, backend: Backend) -> complex:
    """``L = sum(w * y)``."""
    ys, ws = as_tuple(outputs), as_tuple(seeds(outputs, backend))
    return complex(sum(backend.to_numpy((y * w).sum()).item() for y, w in zip(ys, ws, strict=True)))


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Several outputs or gradients as they are, a single one in a tuple."""
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def copied(value: Any, backend: Backend, dtype: Any) -> Any:
    """A contiguous copy; of ``dtype`` where the value is an array of floating numbers."""
    if isinstance(value, LookedUp):
        table, tokens = (copied(part, backend, dtype) for part in (value.table, value.tokens))
        return LookedUp(table, tokens)
    if not hasattr(value, "dtype"):
        return value
    kept = dtype if is_floating(value) else value.dtype
    return backend.asarray(np.array(backend.to_numpy(value), dtype=kept, order="C"))


def host(value: Any, backend: Backend) -> NDArray[Any]:
    """A copy in host memory, of an array that may be there already, as lengths are."""
    return np.array(value if isinstance(value, np.ndarray) else backend.to_numpy(value))


def array_of(value: Any) -> Any:
    """What is nudged of an input: of rows looked up in a table, the table."""
    return value.table if isinstance(value, LookedUp) else value


def is_floating(value: Any) -> bool:
    """Whether it is an array of real or complex numbers, or rows of such a table."""
    return hasattr(value, "dtype") and value.dtype.kind in "fc"


def is_whole(value: Any) -> bool:
    """Whether it is an array of integers or of truth values."""
    return hasattr(value, "dtype") and value.dtype.kind in "iub"
