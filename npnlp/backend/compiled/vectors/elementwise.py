"""tanh, exp and the logistic function in plain arithmetic, which compilers turn into vector code.

    x = m + y,  m = n ln(2) / 2,  n an integer,  |y| <= ln(2) / 4
    tanh x = (a + tau) / (1 + a tau),  a = tanh m = (2^n - 1) / (2^n + 1),  tau = tanh y
    sigma(2 x) = e^x / (e^x + e^-x) = 2^n (1 + tau) / (2^n (1 + tau) + 1 - tau)

    exp x = 2^n (1 + epsilon),  x = n ln(2) + y,  |y| <= ln(2) / 2,  epsilon = exp y - 1

``tau`` and ``epsilon`` are Taylor series, which converge fast near zero. There is no branch and no
table, so vectors are computed like single numbers. tanh and sigma are accurate to three units in
the last place, exp to two, and all return NaN for NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.vectors.kernel import inner, kernel
from npnlp.backend.compiled.vectors.vectors import Number, of_one

#: Terms of the series of tanh and of exp, by the bytes of a number.
TERMS = {4: (4, 8), 8: (10, 14)}


@inner
def columns(low: int, high: int) -> Any:
    """``range(low, high)`` of unsigned integers.

    A signed index is tested for a negative value, which prevents vector code.
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


@dataclass(frozen=True)
class Reduction:
    """Constants for the reduction ``x = n unit + y`` in one floating-point type.

    Adding ``rounding`` rounds to an integer, and leaves n in the lowest bits. The unit is
    ``high + low``; ``high`` has so few bits that ``n high`` is exact.
    """

    rounding: float
    per_unit: float
    high: float
    low: float

    @classmethod
    def by(cls, unit: Decimal, real: Any) -> Reduction:
        """By multiples of ``unit``."""
        fraction = np.finfo(real).nmant
        short = 2 ** (fraction - 12)
        high = round(unit * short) / short
        return cls(1.5 * 2.0**fraction, float(1 / unit), high, float(unit - Decimal(high)))

    def of(self, x: Number) -> tuple[Number, Number]:
        """``2^n`` and y."""
        moved = x * self.per_unit + self.rounding
        n = moved - self.rounding
        return moved.power_of_two(), (x - n * self.high) - n * self.low


@cache
def _halves(real: Any) -> tuple[Reduction, list[float], float, float]:
    """The reduction by ln(2) / 2, the series after its first term, where tanh rounds to 1, and the
    x up to which ``e^2x`` is a number with all its digits.
    """
    tail = [float(c) for c in series(TERMS[np.dtype(real).itemsize][0])[1:]]
    largest = math.log(2) * (np.finfo(real).nmant + 3) / 2
    numbers = -math.log(np.finfo(real).tiny) / 2
    return Reduction.by(Decimal(2).ln() / 2, real), tail, largest, numbers


@cache
def _wholes(real: Any) -> tuple[Reduction, list[float], float]:
    """The reduction by ln(2), the series after two terms, and the x below which exp is 0."""
    tail = [1 / math.factorial(k) for k in range(2, TERMS[np.dtype(real).itemsize][1] + 1)]
    return Reduction.by(Decimal(2).ln(), real), tail, math.log(np.finfo(real).tiny) + 1


def _sum(coefficients: list[float], s: Number) -> Number:
    """``s (c_0 + s (c_1 + s (c_2 + ...)))``."""
    total: Any = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        total = s * total + coefficient  # fused
    found: Number = s * total
    return found


def tanh_of(x: Number) -> Number:
    """Generate ``tanh x``."""
    by_halves, tail, largest, _ = _halves(x.real)
    power, y = by_halves.of(x.within(largest))
    tau = y + y * _sum(tail, y * y)
    less, more = power - 1, power + 1
    return (less + more * tau) / (more + less * tau)


def logistic_of(x: Number) -> Number:
    """Generate ``1 / (1 + exp(-x))``; 0 where it would underflow.

    ``(1 + tanh(x / 2)) / 2`` would lose the digits of a number near 0.
    """
    by_halves, tail, _, largest = _halves(x.real)
    power, y = by_halves.of((x * 0.5).within(largest))
    tau = y + y * _sum(tail, y * y)
    found = (power + power * tau) / ((power + 1) + (power - 1) * tau)
    return x.where("<", -2 * largest, 0, found)


def relu_of(x: Number) -> Number:
    """Generate ``max(x, 0)``; NaN stays."""
    return x.where("<", 0, 0.0, x)


def exp_of(x: Number) -> Number:
    """Generate ``exp x`` for ``x <= 0``; 0 where it would underflow."""
    by_wholes, tail, smallest = _wholes(x.real)
    power, y = by_wholes.of(x)
    found = power + power * (y + y * _sum(tail, y))
    return x.where("<", smallest, 0, found)


#: The same for one float32 or float64, to be called in compiled functions.
tanh, logistic, exp = of_one(tanh_of), of_one(logistic_of), of_one(exp_of)


@kernel
def relu(x: Array, y: Array, active: Array) -> None:
    """See :class:`npnlp.layers.activation.ReLU`; ``active`` has the type of x."""
    values, larger, ones = x.reshape(-1), y.reshape(-1), active.reshape(-1)
    for i in range(len(values)):
        larger[i] = 0 if values[i] <= 0 else values[i]  # NaN stays
        ones[i] = 1 if values[i] > 0 else 0
