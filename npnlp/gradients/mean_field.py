"""Mean-field theory: the factor by which a gradient shrinks a step, from few numbers.

A gradient whose direction has nothing to do with the weights keeps of its mean square, in one step
back over weights with independent entries of mean 0 and variance ``v / H``,

    (1)  E|d_{t-1}|^2 = chi E|d_t|^2,      chi = v E[phi'(a)^2]                     (Elman)

for ``d_{t-1} = W^T (phi'(a) d_t)`` adds up H terms of random signs. The factor a step is
``sqrt(chi)``: below 1 gradients vanish, above 1 they explode. A cell with gates adds the mean
squares of its terms: chi is the formula of ``steps.py`` with mean squares of the slopes for the
slopes and ``v_g`` for ``W_g``, a matrix for the pair of states of an LSTM.

From the weights and the activations of a pass, :func:`growth` takes ``v = |W|_F^2 / H`` and the
mean over the units. Without any pass, :func:`fixed_point` finds the activations, too: a sum of many
independent terms is normal, ``a ~ N(0, q)``, and so for Elman

    (2)  q = v E[phi(sqrt(q) z)^2] + u + b,     z ~ N(0, 1)

with u the variance of ``W_ih x + b_ih`` and b that of ``b_hh``; their means move a. For cells with
gates the same sums stand in each gate, and the mean squares of the states are those of one more
step: of h, and of c as if it were normal. Without inputs and biases, tanh has ``q = 0`` and ``chi =
v`` up to the critical ``v = 1``; ReLU has ``chi = v / 2``.

The theory is of wide layers with independent weights. It is no bound: orthogonal weights, the
identity and trained weights are not independent, gates of one unit stay open together from step to
step, and a layer of few units differs from the mean of many.

Sources: Poole et al., "Exponential expressivity in deep neural networks through transient chaos",
2016; Schoenholz et al., "Deep information propagation", 2017; for recurrent networks with gates
Chen, Pennington and Schoenholz, "Dynamical isometry and a mean field theory of RNNs", 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array
from npnlp.errors import InputError
from npnlp.gradients.steps import FORMULAS, SLOPES, Several, Steps, gate_blocks, sum_of
from npnlp.gradients.units import UNITS, mean_square
from npnlp.layers.recurrent.cell import Cell
from npnlp.summary import summarized

Floats = NDArray[np.float64]
#: Steps to a fixed point at most, and the change at which it is reached.
MOST, STILL = 2000, 1e-13
#: Of ReLU with ``v >= 2`` there is no fixed point: the states grow for ever. Here it is given up;
#: the slopes are those of any size.
LARGEST = 1e100


def growth(steps: Steps) -> Floats:
    """chi of every row, from the weights and activations of a pass: ``(N, S, S)`` for S states.

    ``[m, n]`` takes the mean square of ``dL/d`` state m after the step to that of state n before.
    """
    slopes, carried = (
        tuple(_mean_squares(factor) for factor in kind) for kind in (steps.slopes, steps.carried)
    )
    variances = tuple(np.full((1, 1), variance) for variance in variances_of(steps.weights))
    chi: Floats = sum_of(steps.formula(slopes, carried, variances))
    return np.broadcast_to(chi, (len(steps.slopes[0]), *chi.shape[-2:]))


def _mean_squares(rows: Floats) -> Floats:
    """The mean square of each row of ``(N, H)``: ``(N, 1)``."""
    sums = np.einsum("ni,ni->n", rows, rows)
    means: Floats = sums[:, None].astype(np.float64) / rows.shape[1]
    return means


def variances_of(weights: Several) -> list[float]:
    """``v = |W_g|_F^2 / H`` of each gate: H times the mean square of its entries."""
    return [float((w * w).sum()) / len(w) for w in weights]


def factor_of(chi: Floats) -> float:
    """The factor by which a gradient grows a step in the long run: ``sqrt`` of chi's eigenvalue."""
    return float(np.sqrt(np.abs(np.linalg.eigvals(chi)).max()))


@summarized
@dataclass(frozen=True)
class MeanField:
    """What the theory says of a cell: mean squares of its states ``(S,)``, and chi ``(S, S)``."""

    squares: tuple[float, ...]
    chi: Floats

    @property
    def factor(self) -> float:
        """The factor by which a gradient grows a step."""
        return factor_of(self.chi)


def mean_field(layer: Cell, x: Array) -> MeanField:
    """The theory of ``layer`` on inputs like the rows of ``x (n, D)``, which it does not run.

    Raises :class:`InputError` for a cell that the theory has no unit of.
    """
    weights, host = gate_blocks(layer), layer.backend.to_numpy
    u = host(x @ layer.weight("weight_ih").T + layer.weight("bias_ih"))
    sums = [
        (values.mean(axis=(0, 2)), values.var(axis=(0, 2)))
        for values in (
            given.reshape(-1, len(weights), layer.hidden_size).astype(np.float64)
            for given in (u, host(layer.weight("bias_hh")))
        )
    ]
    return fixed_point(layer, variances_of(weights), np.array(sums))


def fixed_point(layer: Cell, variances: Sequence[float], sums: Floats) -> MeanField:
    """(2), and chi there, for a cell of the kind of ``layer``, whose weights are not looked at.

    ``variances`` are ``v_g`` of each gate; ``sums (2, 2, G)`` the mean and the variance of each
    gate's ``W_ih x + b_ih``, and of its ``b_hh``.
    """
    kind = next((family for family in type(layer).__mro__ if family in UNITS), None)
    if kind is None:
        known = ", ".join(cell.__name__ for cell in UNITS)
        raise InputError(f"no mean-field theory of {type(layer).__name__}; there is one of {known}")
    unit = UNITS[kind]
    squares = (1.0,) * len(layer.states)
    for _ in range(MOST):
        states, memory, before = unit(layer, squares, np.asarray(variances), sums)
        after = tuple(map(mean_square, states))
        still = np.allclose(after, squares, rtol=STILL, atol=STILL)
        squares = after
        if still or max(after) > LARGEST:
            break
    slopes, carried = (
        tuple(np.array([[mean_square(factor)]]) for factor in made)
        for made in SLOPES[kind](layer, states, memory, before)
    )
    of_weights = tuple(np.array([[variance]]) for variance in variances)
    chi = sum_of(FORMULAS[kind](slopes, carried, of_weights))
    return MeanField(squares, np.asarray(chi)[0])
