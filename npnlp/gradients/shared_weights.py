"""Mean-field theory of a gradient whose steps all share their weights.

With k counting steps back from the end, of each unit, a state that passes by the weights (``A``)
and a sum over the weights (``eta``):

    (1)  d_{k+1} = A_k d_k + eta_k,      eta_k = sum_g W_g^T (F_{g,k} d_k)
    (2)  E[eta_j eta_k] = sum_g v_g mean over the units of F_{g,j} F_{g,k} E[d_j d_k]

eta is a sum of many terms, and normal. ``mean_field.py`` has a new draw of the weights in each
step, so that eta of different steps has nothing in common: (2) for ``j = k`` alone. The weights of
a recurrent layer are the same in every step, and where the gradient also passes by them, it meets
their output again: ``d_j`` and ``d_k`` are alike, and so ``eta_j`` and ``eta_k``. Their sum is
larger than that of independent numbers: a gate carries ``z + sigma`` rather than ``sqrt(z^2 +
sigma^2)``. For Elman, ``A = 0``, nothing is met again, and both theories are the same.

What follows from (1) and (2), with ``C_{jk} = E[d_j d_k^T]`` and ``D_{jk} = E[eta_j d_k^T]`` of
each unit, from ``C_00 = 1`` of the hidden state on:

    (3)  D_{j,0} = 0,  D_{j,k+1} = D_{jk} A_k^T + E[eta_j eta_k]
    (4)  C_{j+1,k} = A_j C_{jk} + D_{jk},  C_{j+1,j+1} = A_j C_{j+1,j}^T + D_{j,j+1}

and the prediction is ``|d_k| = sqrt(mean C_kk) |d_0|``. (2) to (4) take the slopes of one pass; the
weights are in it by ``v_g = |W_g|_F^2 / H`` alone.

The idea, a field with the correlations that it makes itself, is that of Sompolinsky, Crisanti and
Sommers, "Chaos in random neural networks", 1988; Chen, Pennington and Schoenholz, 2018, have gates
without it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError
from npnlp.gradients import steps as formulas
from npnlp.gradients.mean_field import variances_of
from npnlp.gradients.steps import Formula, Several, Steps

Floats = NDArray[np.float64]
#: Of T steps: ``A (T, S, S, H)``; ``F (T, G, S, H)``, what each gate reads of each state; and how
#: the sum of each gate reaches each unit, ``(T, G, H)``, or None where it is the sum itself.
Parts = tuple[Floats, Floats, Floats | None]


def of_elman(slopes: Several, carried: Several) -> Parts:
    """``eta = W^T (F d)``"""
    (f,) = slopes
    return np.zeros_like(f)[:, None, None], f[:, None, None], None


def of_gru(slopes: Several, carried: Several) -> Parts:
    """``A = z``"""
    (kept,) = carried
    return kept[:, None, None], np.stack(slopes[:3], axis=1)[:, :, None], None


def of_gru_reset_before(slopes: Several, carried: Several) -> Parts:
    """``A = z``; the sum of the candidate goes on by r, and by ``W_r`` and its slope."""
    (r, z, n), (kept, reset) = slopes, carried
    read = np.stack([np.zeros_like(r), z, n], axis=1)[:, :, None]
    return kept[:, None, None], read, np.stack([r, reset], axis=1)


def of_lstm(slopes: Several, carried: Several) -> Parts:
    """With ``c = d_c + s d_h``: ``A`` takes ``f c`` to the cell; i, f, g read c, and o reads h."""
    s, kept = carried
    zero = np.zeros_like(s)
    direct = np.stack([np.stack([zero, zero], 1), np.stack([kept * s, kept], 1)], axis=1)
    of_cell = [np.stack([slope * s, slope], axis=1) for slope in slopes[:3]]
    read = np.stack([*of_cell, np.stack([slopes[3], zero], axis=1)], axis=1)
    return direct, read, None


#: The parts of each formula.
PARTS: dict[Formula, Callable[[Several, Several], Parts]] = {
    formulas.elman: of_elman, formulas.gru: of_gru,
    formulas.gru_reset_before: of_gru_reset_before, formulas.lstm: of_lstm,
}  # fmt: skip


def predicted(steps: Steps) -> Floats:
    """``|d_k| / |d_0|`` for k = 0, ..., T steps back: ``(T + 1,)``.

    ``steps`` are those of one sequence, a row a step.

    Raises :class:`InputError` for a formula that is not in :data:`PARTS`.
    """
    if steps.formula not in PARTS:
        raise InputError(
            f"no mean-field theory of the formula {steps.formula.__name__}; add its parts to "
            f"npnlp.gradients.shared_weights.PARTS"
        )
    slopes, carried = (
        tuple(factor[::-1].astype(np.float64) for factor in kind)
        for kind in (steps.slopes, steps.carried)
    )
    direct, read, onward = PARTS[steps.formula](slopes, carried)
    variances = np.array(variances_of(steps.weights))
    length, states, _, size = direct.shape
    row = np.zeros((1, states, states, size))  # C_{jk} for all k up to j
    row[0, 0, 0] = 1
    squares = [1.0]
    for j in range(length):
        sums = variances * np.einsum("gmh,kmnh,kgnh->kg", read[j], row, read[: j + 1]) / size
        d = np.zeros((j + 2, states, size))  # D_{jk}
        for k, field in enumerate(_fields(sums, variances, onward, j)):  # (2)
            d[k + 1] = np.einsum("nmh,mh->nh", direct[k], d[k])  # (3)
            d[k + 1, 0] += field
        after = np.empty((j + 2, states, states, size))
        after[:-1] = np.einsum("nmh,kmih->knih", direct[j], row)  # (4)
        after[:-1, 0] += d[:-1]
        after[-1] = np.einsum("nmh,imh->nih", direct[j], after[-2])
        after[-1, 0] += d[-1]
        row = after
        squares.append(float(row[-1, 0, 0].mean()))
    found: Floats = np.sqrt(squares)
    return found


def _fields(sums: Floats, variances: Floats, onward: Floats | None, j: int) -> Floats:
    """(2) for all k up to j, from the ``sums (k, G)`` of each gate: ``(k, 1)`` or ``(k, H)``."""
    if onward is None:
        fields: Floats = sums.sum(axis=1, keepdims=True)
        return fields
    slope, reset = (onward[j] * onward[: j + 1]).swapaxes(0, 1)  # each (k, H)
    by_weights = variances[0] * slope.mean(axis=1, keepdims=True)
    through: Floats = sums[:, 1:2] + sums[:, 2:] * (reset + by_weights)
    return through
