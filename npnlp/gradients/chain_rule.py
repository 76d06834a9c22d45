"""The chain rule on paper: four small cases to follow with a pencil.

    a.  dh_T/dh_0 = product of dh_t/dh_{t-1}              a chain of local derivatives
    b.  z = 2 x^2 y / (1 + y^2)                           two partial derivatives
    c.  w <- w - eta dJ/dw                                gradient descent
    d.  h = tanh(W_ih x + b_ih + W_hh h_prev + b_hh)      one step of two units, and back

They are checked like the layers, by complex step and central differences, and (d) against the
layer. ``experiments/chain_rule.py`` prints and draws them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.gradients.point import CENTRAL_STEP, COMPLEX_STEP
from npnlp.layers import Elman, Packing

Floats = NDArray[np.float64]
Pair = tuple[float, float]
Function = Callable[[complex], complex]
Numerical = Callable[[Function, float, float], float]
Loss = Callable[[Floats], float]
Gradient = Callable[[Floats], Floats]


def products(factors: Sequence[float] | Floats) -> Floats:
    """The chain multiplied out: 1, f_1, f_1 f_2, ..., for ``factors (T,)``: ``(T + 1,)``."""
    return np.concatenate([[1.0], np.cumprod(np.asarray(factors, dtype=np.float64))])


def tanh_orbit(w: float, h0: float, steps: int) -> tuple[Floats, Floats]:
    """``h_t = tanh(w h_{t-1})`` from ``h0``, and ``dh_t/dh_{t-1} = (1 - h_t^2) w``: ``(T,)`` both.

    An Elman layer of one unit without input. Each local derivative is the product of the weight and
    the slope of tanh at the orbit.
    """
    hidden, h = [], h0
    for _ in range(steps):
        h = math.tanh(w * h)
        hidden.append(h)
    states = np.array(hidden)
    return states, (1 - states * states) * w


def z(x: complex, y: complex) -> complex:
    """``z = 2 x^2 y / (1 + y^2)``."""
    return 2 * x * x * y / (1 + y * y)


def dz_dx(x: float, y: float) -> float:
    """``dz/dx = 4 x y / (1 + y^2)``."""
    return 4 * x * y / (1 + y * y)


def dz_dy(x: float, y: float) -> float:
    """``dz/dy = 2 x^2 (1 - y^2) / (1 + y^2)^2``, by the quotient rule.

    ``(u/v)' = u'/v - u v'/v^2`` with ``u = 2 x^2 y``, ``v = 1 + y^2``:
    ``2 x^2 / (1 + y^2) - 2 x^2 y * 2 y / (1 + y^2)^2``, over one denominator.
    """
    return 2 * x * x * (1 - y * y) / (1 + y * y) ** 2


def dz_dy_first_term(x: float, y: float) -> float:
    """``2 x^2 / (1 + y^2)``: a deliberate slip, the quotient rule without its second term."""
    return 2 * x * x / (1 + y * y)


def along(variable: str, x: float, y: float) -> tuple[Function, float]:
    """``z`` as a function of one variable, ``"x"`` or ``"y"``, and the value of that variable."""
    if variable == "x":
        return (lambda v: z(v, y)), x
    return (lambda v: z(x, v)), y


def central_difference(f: Function, at: float, step: float = CENTRAL_STEP) -> float:
    """``(f(x + h) - f(x - h)) / 2h``: its error is of order h^2, plus rounding divided by h."""
    return (f(at + step) - f(at - step)).real / (2 * step)


def complex_step(f: Function, at: float, step: float = COMPLEX_STEP) -> float:
    """``Im f(x + ih) / h``: its error is of order h^2 only, since nothing is subtracted."""
    return f(complex(at, step)).imag / step


def relative_error(found: float, reference: float) -> float:
    """``|found - reference|`` divided by ``|reference|``, or by 1 where that is smaller."""
    return abs(found - reference) / max(abs(reference), 1.0)


def bowl(w: Floats) -> float:
    """``J(w) = (w - 3)^2 + 1``."""
    return float((w[0] - 3) ** 2 + 1)


def bowl_gradient(w: Floats) -> Floats:
    """``dJ/dw = 2 (w - 3)``: a step multiplies the distance to 3 by ``1 - 2 eta``."""
    return 2 * (w - 3)


def valley(w: Floats) -> float:
    """``J(w) = (w_1^2 + 10 w_2^2) / 2``, ten times as steep along ``w_2``."""
    return float(w[0] ** 2 + 10 * w[1] ** 2) / 2


def valley_gradient(w: Floats) -> Floats:
    """``dJ/dw = (w_1, 10 w_2)``: a step multiplies by ``1 - eta`` and ``1 - 10 eta``."""
    gradient: Floats = w * np.array([1.0, 10.0])
    return gradient


def descend(gradient: Gradient, start: Sequence[float], eta: float, steps: int) -> Floats:
    """All points of ``w <- w - eta dJ/dw`` from ``start (n,)``: ``(steps + 1, n)``."""
    path = [np.array(start, dtype=np.float64)]
    for _ in range(steps):
        path.append(path[-1] - eta * gradient(path[-1]))
    return np.array(path)


@dataclass(frozen=True)
class Line:
    """A line of the hand calculation: the quantity, the calculation in numbers, the result."""

    quantity: str
    numbers: str
    value: float


@dataclass(frozen=True)
class ElmanStep:
    """One step of an Elman layer with two inputs and two units, and the gradient ``d = dL/dh``."""

    x: Pair = (1.0, -0.5)
    h_prev: Pair = (0.2, -0.4)
    w_ih: tuple[Pair, Pair] = ((0.6, -0.2), (0.1, 0.8))
    w_hh: tuple[Pair, Pair] = ((0.5, -0.3), (0.7, 0.2))
    b_ih: Pair = (0.1, -0.1)
    b_hh: Pair = (0.05, 0.3)
    d: Pair = (1.0, -2.0)

    def by_hand(self) -> list[Line]:
        """Forward and backward, one line for each number, without matrices."""
        lines, delta = [], []
        for i in (0, 1):
            a = _sum(
                f"a[{i}]",
                [
                    *zip(self.w_ih[i], self.x, strict=True),
                    *zip(self.w_hh[i], self.h_prev, strict=True),
                ],
                [self.b_ih[i], self.b_hh[i]],
            )
            h = Line(f"h[{i}]", f"tanh({a.value:.4g})", math.tanh(a.value))
            slope = Line(f"phi'[{i}]", f"1 - {_number(h.value)}^2", 1 - h.value * h.value)
            delta.append(_sum(f"delta[{i}]", [(slope.value, self.d[i])]))
            lines += [a, h, slope, delta[i]]
        for name, inputs in (("W_hh", self.h_prev), ("W_ih", self.x)):
            for i in (0, 1):
                for j in (0, 1):
                    lines.append(_sum(f"dL/d{name}[{i},{j}]", [(delta[i].value, inputs[j])]))
        for name, weights in (("h_prev", self.w_hh), ("x", self.w_ih)):
            for j in (0, 1):
                column = [(weights[i][j], delta[i].value) for i in (0, 1)]
                lines.append(_sum(f"dL/d{name}[{j}]", column))
        return lines

    def by_layer(self) -> dict[str, float]:
        """The same numbers from :class:`npnlp.layers.Elman`, by the names of :meth:`by_hand`.

        ``delta`` is the gradient of the biases; the layer does not return ``a`` and ``phi'``.
        """
        layer = Elman(2, 2, dtype=np.float64)
        for name, value in {
            "weight_ih_l0": self.w_ih, "weight_hh_l0": self.w_hh,
            "bias_ih_l0": self.b_ih, "bias_hh_l0": self.b_hh,
        }.items():  # fmt: skip
            layer.parameters[name][...] = np.array(value)
        packing = Packing.of(np.array([1]), layer.backend)
        (_, h), cache = layer.forward(np.array([self.x]), np.array([self.h_prev]), packing=packing)
        d_x, d_h_prev = layer.backward((None, np.array([self.d])), cache)
        arrays: dict[str, Any] = {
            "h": h, "delta": layer.grads["bias_ih_l0"],
            "dL/dW_hh": layer.grads["weight_hh_l0"], "dL/dW_ih": layer.grads["weight_ih_l0"],
            "dL/dh_prev": d_h_prev, "dL/dx": d_x,
        }  # fmt: skip
        return {
            f"{name}[{','.join(map(str, place))}]": float(value)
            for name, array in arrays.items()
            for place, value in np.ndenumerate(np.squeeze(array))
        }


def _number(value: float) -> str:
    """Four digits; in brackets where it is negative."""
    return f"{value:.4g}" if value >= 0 else f"({value:.4g})"


def _sum(quantity: str, pairs: Sequence[tuple[float, float]], rest: Sequence[float] = ()) -> Line:
    """``a b + c d + ... + rest`` in numbers, and the result."""
    terms = [f"{_number(a)}*{_number(b)}" for a, b in pairs] + [_number(c) for c in rest]
    return Line(quantity, " + ".join(terms), sum(a * b for a, b in pairs) + sum(rest))
