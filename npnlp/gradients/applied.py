"""A gradient taken back over a step, by the step's Jacobian without making the matrix.

With the letters of ``steps.py`` and d the gradient with respect to the states after the step:

    Elman       (1)  J^T d = W^T (F d)
    GRU         (2)  J^T d = z d + sum_g W_g^T (F_g d)                   g = r, z, n with F_q
    reset       (3)  e = W_n^T (F_n d)
     before          J^T d = z d + W_z^T (F_z d) + r e + W_r^T (F_r e)
    LSTM        (4)  c = d_c + s d_h
                     J^T d = (W_o^T (F_o d_h) + sum_g W_g^T (F_g c), f c)       g = i, f, g

Of m gradients at once that is one product ``(m, G H)`` with ``W_hh`` (two in (3)). A formula that
is not known here is made into a matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from npnlp.gradients import steps as formulas
from npnlp.gradients.steps import Formula, Several, Steps, sum_of

Floats = NDArray[np.float64]
#: ``d``, slopes, carried and ``W_hh`` to ``J^T d``, in parts by state.
Transposed = Callable[[Several, Several, Several, Floats], Several]


def elman(d: Several, slopes: Several, carried: Several, weight: Floats) -> Several:
    """(1)"""
    return ((d[0] * slopes[0]) @ weight,)


def gru(d: Several, slopes: Several, carried: Several, weight: Floats) -> Several:
    """(2): ``carried`` is z, and the last slope is of the input alone."""
    (h,), (kept,) = d, carried
    return (kept * h + _beside(h, slopes[:3]) @ weight,)


def gru_reset_before(d: Several, slopes: Several, carried: Several, weight: Floats) -> Several:
    """(3): ``carried`` are z and r."""
    (h,), (r, z, n), (kept, reset) = d, slopes, carried
    rest = 2 * h.shape[-1]
    e = (n * h) @ weight[rest:]
    of_gates: Floats = np.concatenate([r * e, z * h], axis=-1) @ weight[:rest]
    return (kept * h + reset * e + of_gates,)


def lstm(d: Several, slopes: Several, carried: Several, weight: Floats) -> Several:
    """(4): ``carried`` are s and f."""
    (h, c), (s, kept) = d, carried
    c = c + s * h
    to_gates = np.concatenate([_beside(c, slopes[:3]), slopes[3] * h], axis=-1)
    return to_gates @ weight, kept * c


#: How a gradient is taken back by each formula.
TRANSPOSED: dict[Formula, Transposed] = {
    formulas.elman: elman, formulas.gru: gru, formulas.gru_reset_before: gru_reset_before,
    formulas.lstm: lstm,
}  # fmt: skip


def taken_back(steps: Steps, rows: NDArray[np.int64], d: Several) -> Several:
    """``J^T d`` of each of the steps in ``rows (n,)``, in parts by state as ``d (n, m, H)`` is.

    Computed in the type of ``d``.
    """
    slopes, carried = (
        tuple(factor[rows, None] for factor in kind) for kind in (steps.slopes, steps.carried)
    )
    known = TRANSPOSED.get(steps.formula)
    if known is not None:
        return known(d, slopes, carried, np.concatenate(steps.weights).astype(d[0].dtype))
    slopes, carried = (tuple(factor[:, 0] for factor in kind) for kind in (slopes, carried))
    jacobian: Floats = sum_of(steps.formula(slopes, carried, steps.weights))
    return tuple(np.split(np.concatenate(d, axis=-1) @ jacobian, len(d), axis=-1))


def _beside(d: Floats, slopes: Several) -> Floats:
    """``F_g d`` of several gates, one beside the other."""
    return np.concatenate([slope * d for slope in slopes], axis=-1)
