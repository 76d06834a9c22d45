"""Is a hand-written backward pass the derivative of its forward pass?

Three checks, all in float64, since differences in float32 are never right to 1e-4:

*Complex step*: ``dL/dp = Im L(p + ih) / h`` with ``h = 1e-20``. There is no subtraction, hence no
cancellation, and the result is right to the last digits; the function has to be analytic. Source:
Squire and Trapp, "Using complex variables to estimate derivatives of real functions", 1998.

*Central difference*: ``(L(p + h) - L(p - h)) / 2h``, for functions that are not analytic, away from
their kinks.

*Adjoint*: ``<J v, w> = <v, J^T w>`` for random ``v`` and ``w``, in a few passes whatever the size.

The scalar ``L`` is ``sum(w * y)`` over all outputs with fixed random ``w``.

Where a gradient is zero because large terms cancel, backward and reference are rounding, each its
own. How large that may be is seen from both once more, at points that differ in the last digits,
with another step and another factor of ``dy``: rounding is another one there, and a mistake is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Random
from npnlp.errors import InputError
from npnlp.gradients.contract import (
    Differentiable,
    Observed,
    forward_of,
    observe,
    require_layer,
)
from npnlp.gradients.point import COMPLEX_STEP, TYPES, Point
from npnlp.gradients.report import GradientReport, GradientRow
from npnlp.gradients.variables import is_whole, scalar, variables

BOUNDS = {"complex": 1e-12, "central": 1e-7, "adjoint": 1e-12}
#: How far rounding may be beyond its differences between points nearby.
BEYOND = 10
#: Differences above this are no rounding, where ``w`` and all gradients are of size 1.
NO_ROUNDING = {"complex": 1e-8, "central": 1e-3, "adjoint": 1e-6}


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
    the largest relative error that passes (by default 1e-12 and 1e-7), see :class:`GradientRow`.
    A row "repeatable" fails for everything that breaks the contract of
    :mod:`npnlp.gradients.contract`, and says what. None for the gradient of an input stands for
    zero. ``layer`` is not changed.

    Raises :class:`InputError` for another method, and for a layer that lacks something.
    """
    if method not in TYPES:
        raise InputError(f"method {method!r} is not known; choose complex or central")
    bound = BOUNDS[method] if bound is None else bound
    require_layer(layer)
    report = GradientReport(name or type(layer).__name__)
    observed = observe(layer, inputs, keywords)
    report.rows += [
        GradientRow("repeatable", "exact", 1.0, (), 0.0, breach) for breach in observed.breaches
    ] or [GradientRow("repeatable", "exact", 0.0, (), 0.0)]
    report.rows += _of_integers(inputs, observed)

    point = Point(layer, inputs, keywords)
    twin, twin_inputs = point.copies(TYPES[method])
    for quantity, variable in variables(twin, twin_inputs):
        reference = point.numerical(twin, twin_inputs, variable, method)
        report.rows.append(_row(quantity, reference, observed, point, method, bound))
    return report


def check_adjoint(
    layer: Differentiable,
    *inputs: Any,
    bound: float = BOUNDS["adjoint"],
    name: str | None = None,
    **keywords: Any,
) -> GradientReport:
    """Compare ``<J v, w>`` with ``<v, J^T w>`` for a random direction v of all variables at once.

    It takes a few passes whatever the size. The error is relative to the sum of all ``|v J^T w|``.
    A gradient of the wrong shape fails. Raises :class:`InputError` for a layer that lacks
    something.
    """
    require_layer(layer)
    gap, size = _gap(Point(layer, inputs, keywords))
    error = abs(gap) / size
    if error > bound and abs(gap) < NO_ROUNDING["adjoint"] * size:
        moved = [abs(_gap(there)[0] - gap) for there in Point(layer, inputs, keywords).nearby()]
        error = abs(gap) / (size + BEYOND * max(moved) / bound)
    row = GradientRow("all at once", "adjoint", error, (), bound)
    return GradientReport(name or type(layer).__name__, [row])


def _gap(point: Point) -> tuple[float, float]:
    """``<J v, w> - <v, J^T w>``, and the sum of the sizes of its terms, at least 1e-20.

    NaN where a gradient is of another shape.
    """
    gradients, twin, inputs = point.backward(), *point.copies(np.complex128)
    transposed = size = 0.0
    for quantity, variable in variables(twin, inputs):
        v = Random(0, f"direction.{quantity}").normal(variable.shape)
        variable += point.backend.asarray(1j * point.step * COMPLEX_STEP * v)
        gradient = gradients.get(quantity)
        if gradient is not None:
            terms = gradient * v if gradient.shape == v.shape else np.full(1, math.nan)
            transposed += float(terms.sum())
            size += float(np.abs(terms).sum())
    outputs, _ = forward_of(twin, inputs, point.keywords)
    direct = scalar(outputs, point.backend).imag / (point.step * COMPLEX_STEP)
    return direct - transposed, max(abs(direct), size, COMPLEX_STEP)


def _of_integers(inputs: Sequence[Any], observed: Observed) -> list[GradientRow]:
    """A row for each input of integers, which has no gradient."""
    rows = []
    for position, value in enumerate(inputs):
        if is_whole(value):
            given = observed.returned[position : position + 1] == (True,)
            reason = f"a gradient of {value.dtype}; to have it checked, give floating numbers"
            error, said = (1.0, reason) if given else (0.0, "")
            rows.append(GradientRow(f"input {position}", "integers", error, (), 0.0, said))
    return rows


def _row(
    quantity: str,
    reference: NDArray[np.float64],
    observed: Observed,
    point: Point,
    method: str,
    bound: float,
) -> GradientRow:
    """The largest error in the gradient of ``quantity``."""
    given, reason = observed.gradients.get(quantity), ""
    if quantity not in observed.gradients:
        reason, given = f"grads has no {quantity!r}", np.full(reference.shape, math.nan)
    elif given is None:
        reason = "backward returns None, but the outputs depend on it"
        given = np.zeros(reference.shape)
    if given.shape != reference.shape:
        reason = f"a gradient of shape {given.shape} for an array of {reference.shape}"
        return GradientRow(quantity, method, math.nan, (), bound, reason)
    gap = given - reference
    errors = _errors(gap, reference)
    error, index = _worst(errors)
    if error > bound and np.abs(gap).max() < NO_ROUNDING[method] * _size(observed):
        moved = np.zeros(gap.shape)
        for there in point.nearby():
            moved = np.maximum(moved, np.abs(there.gap(quantity, method) - gap))
        error, index = _worst(_errors(gap, reference, BEYOND * _of_columns(moved) / bound))
        if error > bound:
            error = float(errors[index])
    if error <= bound:
        return GradientRow(quantity, method, error, index, bound)
    if not reason:
        reason = f"backward gives {given[index]:.6g}, but it is {reference[index]:.6g}"
        if method == "complex" and not reference.any():
            reason += ", as all of it is; does forward keep complex numbers?"
    return GradientRow(quantity, method, error, index, bound, reason)


def _size(observed: Observed) -> float:
    """The largest gradient of all, or of an output, which is about 1."""
    found = [np.abs(g).max(initial=0) for g in observed.gradients.values() if g is not None]
    return float(np.nanmax([1.0, *found]))


def _of_columns(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest of each column, in the place of each of its entries; see GradientRow."""
    axes = tuple(range(max(values.ndim - 1, min(values.ndim, 1))))
    return np.broadcast_to(values.max(axis=axes, keepdims=True, initial=0), values.shape)


def _errors(
    gap: NDArray[np.float64], reference: NDArray[np.float64], allowed: Any = 0.0
) -> NDArray[np.float64]:
    """The error of each entry; ``allowed`` is added to what it is divided by."""
    size = np.abs(reference)
    scale = _of_columns(size)
    scale = np.where(scale > 0, scale, size.max(initial=0) or 1.0)
    errors: NDArray[np.float64] = np.abs(gap) / (scale + allowed)
    return errors


def _worst(errors: NDArray[np.float64]) -> tuple[float, tuple[int, ...]]:
    """The largest error, and where."""
    if not errors.size:
        return 0.0, ()
    place = int(np.argmax(np.where(np.isnan(errors), np.inf, errors)))
    index = tuple(int(axis) for axis in np.unravel_index(place, errors.shape))
    return float(errors[index]), index
