"""One unit of each cell on a grid of the normal numbers that it depends on.

Its mean squares are integrals over these numbers, by the quadrature of Gauss and Hermite: the mean
of ``f(z)``, ``z ~ N(0, 1)``, is the sum of ``f`` at n points with n weights, exact for polynomials
of degree ``2 n - 1``. Of several independent numbers it is that of each in turn. With the points
below the mean squares of tanh are right to some parts in a million, those of gates to a few in a
thousand. Source: Abramowitz and Stegun, "Handbook of mathematical functions", 1964, section 25.4.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from npnlp.gradients.steps import Several
from npnlp.layers.recurrent.cell import Cell
from npnlp.layers.recurrent.elman import Elman
from npnlp.layers.recurrent.gru import GRU, GRUResetBefore
from npnlp.layers.recurrent.lstm import LSTM

Floats = NDArray[np.float64]

#: Points of the quadrature: of one normal number, and of each of several.
ALONE, OF_SEVERAL = 100, 9
#: From the cell, the mean squares of its states, ``v_g (G,)``, and of each gate mean and variance
#: of ``W_ih x + b_ih`` and of ``b_hh (2, 2, G)``: states, memory, and the last state before the
#: step.
Unit = Callable[[Cell, tuple[float, ...], Floats, Floats], tuple[Several, Several, Floats]]


def mean_square(values: Floats) -> float:
    """The mean square of ``values`` on the grid of :func:`normal`, an axis a number."""
    _, weights = _points(values.ndim)
    mean: Floats = values**2
    while mean.ndim:
        mean = mean @ weights
    return float(mean)


def normal(*numbers: tuple[float, float]) -> list[Floats]:
    """Gauss and Hermite's points of independent normal numbers, an axis of the grid for each.

    Each number is given by its mean and its variance.
    """
    points, _ = _points(len(numbers))
    axes = range(len(numbers))
    shapes = [tuple(-1 if axis == place else 1 for axis in axes) for place in axes]
    return [
        mean + np.sqrt(variance) * points.reshape(shape)
        for (mean, variance), shape in zip(numbers, shapes, strict=True)
    ]


@cache
def _points(count: int) -> tuple[Floats, Floats]:
    points, weights = np.polynomial.hermite_e.hermegauss(ALONE if count == 1 else OF_SEVERAL)
    return points, weights / weights.sum()


def unit_of_elman(
    layer: Cell, squares: tuple[float, ...], v: Floats, sums: Floats
) -> tuple[Several, Several, Floats]:
    """``h = phi(a)``."""
    (a,) = normal(*_of_gates(sums, v * squares[0]))
    relu = isinstance(layer, Elman) and layer.nonlinearity == "relu"
    return (np.maximum(a, 0) if relu else np.tanh(a),), (), a


def unit_of_gru(
    layer: Cell, squares: tuple[float, ...], v: Floats, sums: Floats
) -> tuple[Several, Several, Floats]:
    """From r, z, ``u_n``, ``q = W_n h + b_n`` and the state before, independent of each other."""
    (square,), (u, b) = squares, sums
    gates = _of_gates(sums, v * square)[:2]
    q = float(b[0, 2]), float(b[1, 2] + v[2] * square)
    r, z, u_n, q_n, h = normal(*gates, (float(u[0, 2]), float(u[1, 2])), q, (0.0, square))
    r, z = _sigmoid(r), _sigmoid(z)
    return _gru(r, z, np.tanh(u_n + r * q_n), q_n, h)


def unit_of_gru_reset_before(
    layer: Cell, squares: tuple[float, ...], v: Floats, sums: Floats
) -> tuple[Several, Several, Floats]:
    """As :func:`unit_of_gru`, with ``W_n m``, ``m = r h``, in the place of ``r q``."""
    (square,) = squares
    gates = _of_gates(sums, v * square)[:2]
    of_m = mean_square(_sigmoid(normal(gates[0])[0])) * square
    candidate = _of_gates(sums, v * of_m)[2]
    r, z, a_n, h = normal(*gates, candidate, (0.0, square))
    r, z = _sigmoid(r), _sigmoid(z)
    return _gru(r, z, np.tanh(a_n), r * h, h)


def _gru(
    r: Floats, z: Floats, n: Floats, memory: Floats, h: Floats
) -> tuple[Several, Several, Floats]:
    r, z, n, memory, h = np.broadcast_arrays(r, z, n, memory, h)
    return (n + z * (h - n),), (np.stack([r, z, n]), memory), h


def unit_of_lstm(
    layer: Cell, squares: tuple[float, ...], v: Floats, sums: Floats
) -> tuple[Several, Several, Floats]:
    """From the four gates and the cell state before, independent of each other."""
    square, square_of_c = squares
    gates = _of_gates(sums, v * square)
    i, f, g, o, c = np.broadcast_arrays(*normal(*gates, (0.0, square_of_c)))
    i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
    after = f * c + i * g
    return (o * np.tanh(after), after), (np.stack([i, f, g, o]), np.tanh(after)), c


def _of_gates(sums: Floats, of_weights: Floats) -> list[tuple[float, float]]:
    """Mean and variance of the sum in each gate; ``of_weights (G,)`` is what ``W_hh`` adds."""
    means, variances = sums.sum(axis=0)
    return list(zip(means.tolist(), (variances + of_weights).tolist(), strict=True))


def _sigmoid(a: Floats) -> Floats:
    half: Floats = 0.5 * (1 + np.tanh(0.5 * a))
    return half


#: One unit of each cell on a grid of what it depends on: states, memory, and the state before.
UNITS: dict[type[Cell], Unit] = {
    Elman: unit_of_elman, GRU: unit_of_gru, GRUResetBefore: unit_of_gru_reset_before,
    LSTM: unit_of_lstm,
}  # fmt: skip
