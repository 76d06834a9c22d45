"""tanh, exp and the logistic function in plain arithmetic, which compilers turn into vector code.

    x = m + y,  m = n ln(2) / 2,  n an integer,  |y| <= ln(2) / 4
    tanh x = (a + tau) / (1 + a tau),  a = tanh m = (2^n - 1) / (2^n + 1),  tau = tanh y

    exp x = 2^n (1 + epsilon),  x = n ln(2) + y,  |y| <= ln(2) / 2,  epsilon = exp y - 1

``tau`` and ``epsilon`` are Taylor's series, which so near zero converge fast. No branch and no
table: a vector of numbers goes through it like one number. tanh is within three units in the last
place, exp within two, and both keep NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from npnlp.backend.base import Array
from npnlp.backend.compiled.kernel import OPTIONS, distinct, inner, kernel


def tanh(x: Any) -> Any:
    """``tanh x`` of a float32 or a float64, in compiled functions."""
    raise NotImplementedError("only compiled functions call it")


def exp(x: Any) -> Any:
    """``exp x`` of a float32 or a float64 that is not above 0, in compiled functions."""
    raise NotImplementedError("only compiled functions call it")


@inner
def logistic(x: Any) -> Any:
    """``1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2``."""
    half = type(x)(0.5)
    return half * tanh(half * x) + half


@inner
def columns(low: int, high: int) -> Any:
    """``range(low, high)`` of numbers that a compiler knows to be not below zero.

    An index that may be is asked whether it counts from the end, and no vectors are made.
    """
    return range(np.uint64(low), np.uint64(high))


@inner
def copy(source: Any, target: Any, own: Any) -> None:
    """``target = source``, both ``(b, H)``, in the columns ``own``."""
    for b in range(len(source)):
        for j in own:
            target[b, j] = source[b, j]


@inner
def add(source: Any, target: Any, own: Any) -> None:
    """``target += source``, both ``(b, H)``, in the columns ``own``."""
    for b in range(len(source)):
        for j in own:
            target[b, j] += source[b, j]


def series(terms: int) -> list[Fraction]:
    """``tanh(y) / y`` in powers of ``y^2``, from ``tanh' = 1 - tanh^2``."""
    found = [Fraction(1)]
    for k in range(1, terms):
        square = sum(found[i] * found[k - 1 - i] for i in range(k))
        found.append(Fraction(-square, 2 * k + 1))
    return found


def _horner(coefficients: list[Any]) -> Callable[[Any], Any]:
    """``c_0 + s (c_1 + s (c_2 + ...))``."""
    first, *rest = coefficients
    if not rest:
        return njit(**OPTIONS)(distinct(lambda s: first, first))  # type: ignore[no-any-return]
    inner = _horner(rest)
    sums = distinct(lambda s: first + s * inner(s), *coefficients)
    return njit(**OPTIONS)(sums)  # type: ignore[no-any-return]


def make_tanh(real: Any, integer: Any, terms: int) -> Callable[[Any], Any]:
    """tanh in ``real``, whose bits are those of ``integer``, by so many terms of the series."""
    fraction = np.finfo(real).nmant
    one = real(1)
    bits_of_one, shift = one.view(integer), integer(fraction)
    # Beyond it tanh rounds to 1.
    largest = real(math.log(2) * (fraction + 3) / 2)
    per_unit = real(2 / math.log(2))
    # A number of this size has no fraction: adding it rounds, and leaves n in the lowest bits.
    rounding = real(1.5 * 2.0**fraction)
    # ln(2) / 2 in two parts; the first has so few bits that its product with n is exact.
    short = 2.0 ** (fraction - 12)
    high = real(round(math.log(2) / 2 * short) / short)
    low = real(math.log(2) / 2 - float(high))
    tail = _horner([real(float(c)) for c in series(terms)[1:]])

    def implementation(x: Any) -> Any:
        x = largest if x > largest else x
        x = -largest if x < -largest else x
        moved = x * per_unit + rounding
        n = moved - rounding
        y = (x - n * high) - n * low
        power = real(integer((real(moved).view(integer) << shift) + bits_of_one).view(real))  # 2^n
        s = y * y
        tau = y + y * (s * tail(s))
        less, more = power - one, power + one
        return (less + more * tau) / (more + less * tau)

    return implementation


def make_exp(real: Any, integer: Any, terms: int) -> Callable[[Any], Any]:
    """exp in ``real``, whose bits are those of ``integer``, by so many terms of the series."""
    fraction = np.finfo(real).nmant
    one, zero = real(1), real(0)
    bits_of_one, shift = one.view(integer), integer(fraction)
    # Below it the power of two would have no exponent left: such small numbers become zero.
    smallest = real(math.log(np.finfo(real).tiny) + 1)
    per_unit = real(1 / math.log(2))
    rounding = real(1.5 * 2.0**fraction)
    exact, short = Decimal(2).ln(), 2 ** (fraction - 12)
    high = real(round(exact * short) / short)
    low = real(exact - Decimal(float(high)))
    tail = _horner([real(1 / math.factorial(k)) for k in range(2, terms + 1)])

    def implementation(x: Any) -> Any:
        moved = x * per_unit + rounding
        n = moved - rounding
        y = (x - n * high) - n * low
        power = real(integer((real(moved).view(integer) << shift) + bits_of_one).view(real))  # 2^n
        found = power + power * (y + y * y * tail(y))
        return zero if x < smallest else found

    return implementation


def _overload(function: Any, of_type: dict[Any, Callable[[Any], Any]]) -> None:
    def choose(x: Any) -> Callable[[Any], Any] | None:
        return of_type.get(x)

    overload(function, jit_options=OPTIONS)(choose)


_overload(tanh, {
    types.float32: make_tanh(np.float32, np.int32, 4),
    types.float64: make_tanh(np.float64, np.int64, 10),
})  # fmt: skip
_overload(exp, {
    types.float32: make_exp(np.float32, np.int32, 8),
    types.float64: make_exp(np.float64, np.int64, 14),
})  # fmt: skip


@kernel
def relu(x: Array, y: Array, active: Array) -> None:
    """See :func:`npnlp.backend.plain.relu`; ``active`` is in the type of x."""
    values, larger, ones = x.reshape(-1), y.reshape(-1), active.reshape(-1)
    for i in range(len(values)):
        larger[i] = 0 if values[i] <= 0 else values[i]  # what is not a number stays
        ones[i] = 1 if values[i] > 0 else 0
