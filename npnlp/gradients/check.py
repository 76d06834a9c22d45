"""Is a hand-written backward pass the derivative of its forward pass?

Three checks, all in float64, since differences in float32 are never right to 1e-4:

*Complex step*: ``dL/dp = Im L(p + ih) / h`` with ``h = 1e-20``. There is no subtraction, hence no
cancellation, and the result is right to the last digits; the function has to be analytic. Source:
Squire and Trapp, "Using complex variables to estimate derivatives of real functions", 1998.

*Central difference*: ``(L(p + h) - L(p - h)) / 2h``, for functions that are not analytic, away from
their kinks.

*Adjoint*: ``<J v, w> = <v, J^T w>`` for random ``v`` and ``w``, in a few passes whatever the size.

The scalar ``L`` is ``sum(w * y)`` over all outputs with fixed random ``w``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Backend, Random
from npnlp.backend.operations import LookedUp
from npnlp.errors import InputError
from npnlp.summary import one_line, summarized

COMPLEX_STEP = 1e-20
CENTRAL_STEP = 1e-6
BOUNDS = {"complex": 1e-12, "central": 1e-7, "adjoint": 1e-12}


class Differentiable(Protocol):
    """What a check needs of an object; every :class:`npnlp.layers.Layer` has it."""

    backend: Backend
    parameters: dict[str, Array]
    grads: dict[str, Array]

    @property
    def forward(self) -> Callable[..., tuple[Any, Any]]:
        """``forward(*inputs, **keywords) -> (y, cache)``; y an array or a tuple of arrays."""

    @property
    def backward(self) -> Callable[..., Any]:
        """``backward(dy, cache)`` -> the gradient of the input, or a tuple for several inputs."""

    def zero_grads(self) -> None:
        """Set all gradients to zero."""

    def astype(self, dtype: Any) -> Self:
        """A copy in another dtype."""


@summarized
@dataclass(frozen=True)
class GradientRow:
    """The largest error in the gradient of one parameter or input.

    ``error`` is the largest ``|backward - reference|``, at ``index``, divided by the largest
    ``|reference|`` of the array (by 1 where that is zero).
    """

    quantity: str
    method: str
    error: float
    index: tuple[int, ...]
    bound: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the bound; a NaN is not."""
        return self.error <= self.bound


@dataclass(repr=False)
class GradientReport:
    """The rows of all parameters and inputs of one layer."""

    layer: str
    rows: list[GradientRow] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether there are rows, and all passed."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    def __repr__(self) -> str:
        failed = sum(not row.passed for row in self.rows)
        worst = max((row.error for row in self.rows), default=math.nan)
        outcome = "all passed" if self.passed else f"{failed} failed"
        said = [f"{len(self.rows)} rows", outcome, f"largest error {worst:.1e}"]
        return one_line(f"{type(self).__name__} of {self.layer}:", said)

    def __str__(self) -> str:
        return "\n".join(
            f"{self.layer:<24} {row.quantity:<20} {row.method:<8} {row.error:9.1e} "
            f"at {row.index!s:<12} {'ok' if row.passed else 'FAILED'}"
            for row in self.rows
        )


def check_gradients(
    layer: Differentiable,
    *inputs: Any,
    method: str = "complex",
    bound: float | None = None,
    name: str | None = None,
    **keywords: Any,
) -> GradientReport:
    """Compare every entry of every gradient of ``layer`` with a numerical reference.

    It runs ``layer.forward(*inputs, **keywords)`` on copies; floating inputs are differentiated,
    integer inputs and keywords are not. ``method`` is ``"complex"`` or ``"central"``; ``bound`` is
    the largest relative error that passes (by default 1e-12 and 1e-7). The row "repeatable" fails
    where forward changes its inputs, or where a second backward pass does not return and add the
    same gradients again. ``layer`` is not changed.

    Raises :class:`InputError` for another method.
    """
    if method not in ("complex", "central"):
        raise InputError(f"method {method!r} is not known; choose complex or central")
    bound = BOUNDS[method] if bound is None else bound
    report = GradientReport(name or type(layer).__name__)
    analytic, repeatable = _backward_gradients(layer, inputs, keywords)
    report.rows.append(GradientRow("repeatable", "exact", 0.0 if repeatable else 1.0, (), 0.0))

    exact = np.complex128 if method == "complex" else np.float64
    twin = layer.astype(exact)
    twin_inputs = [_copy(value, layer.backend, exact) for value in inputs]
    variables = dict(_variables(twin, twin_inputs))
    for quantity, variable in variables.items():
        reference = _numerical(twin, twin_inputs, keywords, variable, method)
        error, index = _worst(analytic[quantity], reference)
        report.rows.append(GradientRow(quantity, method, error, index, bound))
    return report


def check_adjoint(
    layer: Differentiable,
    *inputs: Any,
    bound: float = BOUNDS["adjoint"],
    name: str | None = None,
    **keywords: Any,
) -> GradientReport:
    """Compare ``<J v, w>`` with ``<v, J^T w>`` for a random direction v of all variables at once.

    It takes a few passes whatever the size. A gradient of the wrong shape fails.
    """
    analytic, _ = _backward_gradients(layer, inputs, keywords)
    twin = layer.astype(np.complex128)
    twin_inputs = [_copy(value, layer.backend, np.complex128) for value in inputs]
    transposed = 0.0
    for quantity, variable in _variables(twin, twin_inputs):
        v = Random(0, f"direction.{quantity}").normal(variable.shape)
        variable += layer.backend.asarray(1j * COMPLEX_STEP * v)
        fits = analytic[quantity].shape == v.shape
        transposed += float((analytic[quantity] * v).sum()) if fits else math.nan
    outputs, _ = twin.forward(*twin_inputs, **keywords)
    direct = _scalar(outputs, layer.backend).imag / COMPLEX_STEP
    scale = max(abs(direct), abs(transposed))
    error = abs(direct - transposed) / scale if scale else 0.0
    row = GradientRow("all at once", "adjoint", error, (), bound)
    return GradientReport(name or type(layer).__name__, [row])


def _backward_gradients(
    layer: Differentiable, inputs: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[dict[str, NDArray[Any]], bool]:
    """All gradients by the layer's backward pass, and whether a second pass repeats them."""
    backend = layer.backend
    double = layer.astype(np.float64)
    values = [_copy(value, backend, np.float64) for value in inputs]
    before = [_host(value, backend) for value in values]
    outputs, cache = double.forward(*values, **keywords)
    double.zero_grads()
    seeds = _seeds(outputs, backend)
    first = _collect(double, values, double.backward(seeds, cache))
    again = _collect(double, values, double.backward(_seeds(outputs, backend), cache))
    repeatable = all(
        _worst(again[key], first[key] * (2 if key in double.grads else 1))[0] <= 1e-13
        for key in first
    ) and all(
        np.array_equal(old, _host(value, backend))
        for old, value in zip(before, values, strict=True)
    )
    return first, repeatable


def _collect(layer: Differentiable, inputs: list[Any], returned: Any) -> dict[str, NDArray[Any]]:
    """Copies of the gradients, by the names of :func:`_variables`."""
    found = {name: layer.backend.to_numpy(grad).copy() for name, grad in layer.grads.items()}
    gradients = returned if isinstance(returned, tuple) else (returned,)
    for position, value in enumerate(inputs):
        if _is_floating(value):
            gradient = gradients[position] if position < len(gradients) else None
            if gradient is None:  # a missing gradient disagrees with every reference
                found[f"input {position}"] = np.full(_array(value).shape, np.nan)
            else:
                found[f"input {position}"] = layer.backend.to_numpy(gradient).copy()
    return found


def _variables(layer: Differentiable, inputs: list[Any]) -> Iterator[tuple[str, Array]]:
    yield from layer.parameters.items()
    for position, value in enumerate(inputs):
        if _is_floating(value):
            yield f"input {position}", _array(value)


def _numerical(
    layer: Differentiable, inputs: list[Any], keywords: dict[str, Any], variable: Array, method: str
) -> NDArray[np.float64]:
    """``dL/d variable``, entry by entry, of a parameter or an input."""

    def loss_at(flat: Array, index: int, step: complex) -> complex:
        before = flat[index].copy()
        flat[index] += step
        outputs, _ = layer.forward(*inputs, **keywords)
        loss = _scalar(outputs, layer.backend)  # before the reset: an output may be the input
        flat[index] = before
        return loss

    flat = variable.reshape(-1)  # a view: parameters and copied inputs are contiguous
    reference = np.empty(flat.size)
    for index in range(flat.size):
        if method == "complex":
            reference[index] = loss_at(flat, index, 1j * COMPLEX_STEP).imag / COMPLEX_STEP
        else:
            above = loss_at(flat, index, CENTRAL_STEP).real
            below = loss_at(flat, index, -CENTRAL_STEP).real
            reference[index] = (above - below) / (2 * CENTRAL_STEP)
    return reference.reshape(variable.shape)


def _worst(analytic: NDArray[Any], reference: NDArray[np.float64]) -> tuple[float, tuple[int, ...]]:
    if analytic.shape != reference.shape:
        return math.nan, ()
    if not reference.size:
        return 0.0, ()
    difference = np.abs(analytic - reference)
    scale = np.abs(reference).max() or 1.0
    place = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
    index = tuple(int(axis) for axis in np.unravel_index(place, reference.shape))
    return float(difference.flat[place] / scale), index


def _seeds(outputs: Any, backend: Backend) -> Any:
    """``dL/dy = w`` of ``L = sum(w * y)``: an array, or a tuple where ``outputs`` is one."""
    several = isinstance(outputs, tuple)
    seeds = tuple(
        backend.asarray(Random(0, f"seed.{position}").uniform(y.shape, 0.5, 1.5))
        for position, y in enumerate(outputs if several else (outputs,))
    )
    return seeds if several else seeds[0]


def _scalar(outputs: Any, backend: Backend) -> complex:
    seeds = _seeds(outputs, backend)
    if not isinstance(outputs, tuple):
        outputs, seeds = (outputs,), (seeds,)
    return complex(
        sum(
            backend.to_numpy((y * seed).sum()).item()
            for y, seed in zip(outputs, seeds, strict=True)
        )
    )


def _copy(value: Any, backend: Backend, dtype: Any) -> Any:
    """A contiguous copy; of ``dtype`` where the value is an array of floating numbers."""
    if isinstance(value, LookedUp):
        table, tokens = (_copy(part, backend, dtype) for part in (value.table, value.tokens))
        return LookedUp(table, tokens)
    if not hasattr(value, "dtype"):
        return value
    kept = dtype if _is_floating(value) else value.dtype
    return backend.asarray(np.array(backend.to_numpy(value), dtype=kept, order="C"))


def _host(value: Any, backend: Backend) -> Any:
    return backend.to_numpy(_array(value)).copy() if hasattr(value, "dtype") else value


def _array(value: Any) -> Any:
    """What is nudged of an input: of rows looked up in a table, the table."""
    return value.table if isinstance(value, LookedUp) else value


def _is_floating(value: Any) -> bool:
    return hasattr(value, "dtype") and value.dtype.kind in "fc"
