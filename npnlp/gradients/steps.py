"""The Jacobian of one step of every cell, gate by gate, and the chain rule's bound on it.

With ``W_g`` the block of ``W_hh`` that belongs to gate g, and ``F_g`` the elementwise derivatives
of each cell, ``J_t = d state_t / d state_{t-1}`` is

    Elman       (1)  J = F W                                             F = phi'(a)
    GRU         (2)  J = z + F_r W_r + F_z W_z + F_q W_n                 F_q = dh/d(W_n h + b_n)
    reset       (3)  J = z + F_z W_z + F_n W_n (r + F_r W_r)             F_r = dm/da_r, m = r * h
     before
    LSTM        (4)  J = | F_o W_o + s K    s f |                        of the pair (h, c)
                         | K                f   |                        s = dh/dc = o tanh'(c)
                     K = F_i W_i + F_f W_f + F_g W_g                     F_i = dc/da_i, ...

where a vector stands for the diagonal matrix of it. ``z`` and ``f`` are what the gradient can take
past all weights: the *direct* part. In (3) the reset gate's part is ``F_n W_n F_r W_r``.

The bound is the same line read in numbers. The spectral norm has ``|A + B| <= |A| + |B|``,
``|A B| <= |A| |B|`` and ``|diag(v)| = max |v|``, so with ``max |F_g|`` for ``F_g`` and
``sigma_max(W_g)`` for ``W_g`` a line gives a number that the norm of what it stands for does not
exceed (for the LSTM four numbers: a block by itself each):

    (5)  |dL/dh_{t-1}| <= M_t |dL/dh_t|                                  Elman and GRU
    (6)  (|dL/dh_{t-1}|, |dL/dc_{t-1}|) <= M_t^T (|dL/dh_t|, |dL/dc_t|)  LSTM

It holds for the numbers that are computed, too: ``rounding.py`` says how much larger it is made.
``dL/dc_t`` in (6) is with ``h_t`` held: what comes from ``c_{t+1}`` alone. For Elman (5) is
``sigma_max(W_hh) max phi'(a_t)``, the bound of Pascanu, Mikolov and Bengio, 2013, section 2.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError
from npnlp.gradients.rounding import Rounding
from npnlp.gradients.shares import state_before
from npnlp.layers.recurrent.cell import Cell
from npnlp.layers.recurrent.elman import Elman
from npnlp.layers.recurrent.gru import GRU, GRUResetBefore
from npnlp.layers.recurrent.lstm import LSTM
from npnlp.layers.recurrent.memory import RecurrentCache
from npnlp.layers.recurrent.recurrent import Recurrent
from npnlp.summary import summarized

Floats = NDArray[np.float64]
#: Vectors ``(..., n)`` or matrices ``(n, n)``, by gate; n is H, or 1 where they are norms.
Several = tuple[Floats, ...]
Parts = dict[str, Floats]
Formula = Callable[[Several, Several, Several], Parts]
Derivatives = Callable[[Cell, Several, Several, Floats], tuple[Several, Several]]


def elman(slopes: Several, carried: Several, weights: Several) -> Parts:
    """(1): there is no direct part."""
    return {"hidden": _rows(slopes[0], weights[0])}


def gru(slopes: Several, carried: Several, weights: Several) -> Parts:
    """(2): ``carried`` is z, and the last slope is of the input alone."""
    (r, z, q, _), (kept,), (w_r, w_z, w_n) = slopes, carried, weights
    return {
        "direct": _diagonal(kept),
        "reset": _rows(r, w_r),
        "update": _rows(z, w_z),
        "new": _rows(q, w_n),
    }


def gru_reset_before(slopes: Several, carried: Several, weights: Several) -> Parts:
    """(3): ``carried`` are z and r."""
    (r, z, n), (kept, reset), (w_r, w_z, w_n) = slopes, carried, weights
    return {
        "direct": _diagonal(kept),
        "reset": _rows(n, w_n @ _rows(r, w_r)),
        "update": _rows(z, w_z),
        "new": _rows(n, w_n * reset[..., None, :]),
    }


def lstm(slopes: Several, carried: Several, weights: Several) -> Parts:
    """(4): ``carried`` are s and f. What reaches c reaches h, too."""
    (s, kept), w_o = carried, weights[3]
    zero = np.zeros_like(_rows(s, w_o))
    of_cell = zip(LSTM.gates[:3], slopes, weights, strict=False)
    return {
        "direct": np.block([[zero, _diagonal(s * kept)], [zero, _diagonal(kept)]]),
        **{gate: _to_both(s, _rows(slope, w), zero) for gate, slope, w in of_cell},
        "output": np.block([[_rows(slopes[3], w_o), zero], [zero, zero]]),
    }


def slopes_of_elman(
    layer: Cell, states: Several, memory: Several, before: Floats
) -> tuple[Several, Several]:
    """``F = phi'(a)``: of tanh ``1 - h^2``, of ReLU 1 where ``h > 0``, else 0."""
    if isinstance(layer, Elman) and layer.nonlinearity == "relu":
        return (np.sign(states[0]),), ()
    (h,) = states
    return (1 - h * h,), ()


def slopes_of_gru(
    layer: Cell, states: Several, memory: Several, before: Floats
) -> tuple[Several, Several]:
    """``F_r, F_z, F_q`` and ``dh/da_n``; and z."""
    (r, z, n), q = memory
    d_n = (1 - z) * (1 - n * n)
    d_q = d_n * r
    return (d_q * q * (1 - r), z * (before - n) * (1 - z), d_q, d_n), (z,)


def slopes_of_gru_reset_before(
    layer: Cell, states: Several, memory: Several, before: Floats
) -> tuple[Several, Several]:
    """``F_r = dm/da_r, F_z, F_n``; and z, r."""
    (r, z, n), m = memory
    return (m * (1 - r), z * (before - n) * (1 - z), (1 - z) * (1 - n * n)), (z, r)


def slopes_of_lstm(
    layer: Cell, states: Several, memory: Several, before: Floats
) -> tuple[Several, Several]:
    """``F_i, F_f, F_g = dc/da`` and ``F_o = dh/da_o``; and s, f."""
    (h, _), ((i, f, g, o), tanh_c) = states, memory
    slopes = (i * g * (1 - i), f * before * (1 - f), i * (1 - g * g), h * (1 - o))
    return slopes, (o - h * tanh_c, f)


#: The formula of each cell. A subclass has that of its cell, unless it is named itself or overrides
#: the mathematics.
FORMULAS: dict[type[Cell], Formula] = {
    Elman: elman, GRU: gru, GRUResetBefore: gru_reset_before, LSTM: lstm,
}  # fmt: skip
#: The elementwise derivatives that the formula takes, from the states and the memory of a pass,
#: and the last of the states in the step before.
SLOPES: dict[type[Cell], Derivatives] = {
    Elman: slopes_of_elman, GRU: slopes_of_gru, GRUResetBefore: slopes_of_gru_reset_before,
    LSTM: slopes_of_lstm,
}  # fmt: skip


@summarized
@dataclass(frozen=True)
class Steps:
    """What the Jacobians of many steps are made of, a row a step, on the host.

    ``slopes``, the ``F_g``, and ``carried``, the other factors of the formula, each ``(N, H)``;
    ``weights``, of each gate ``(H, H)``; ``rounding``, that of the layer.
    """

    formula: Formula
    slopes: Several
    carried: Several
    weights: Several
    rounding: Rounding

    def parts(self, row: int) -> Parts:
        """The Jacobian of the step in ``row`` by gate, each ``(S H, S H)`` with S states."""
        slopes, carried = (tuple(f[row] for f in kind) for kind in (self.slopes, self.carried))
        return self.formula(slopes, carried, self.weights)

    def bounds(self) -> Floats:
        """``M_t`` of (5) or (6) for every row, rounded outwards: ``(N, S, S)``."""
        slopes, carried = (
            tuple(_largest(factor) + self.rounding.slack for factor in kind)
            for kind in (self.slopes, self.carried)
        )
        sigmas = tuple(np.full((1, 1), sigma) for sigma in self.sigmas)
        bounds: Floats = sum_of(self.formula(slopes, carried, sigmas))
        return bounds * self.wider

    @property
    def wider(self) -> float:
        """What bounds are multiplied by; see :meth:`Rounding.relative`."""
        return self.rounding.relative(*self._shape)

    @property
    def least(self) -> float:
        """What a step may add by numbers that become too small; see :meth:`Rounding.least`."""
        return self.rounding.least(*self._shape, self.sigmas)

    @property
    def _shape(self) -> tuple[int, int]:
        """The numbers of gates and of units."""
        return len(self.weights), self.weights[0].shape[1]

    @cached_property
    def sigmas(self) -> tuple[float, ...]:
        """``sigma_max(W_g)`` of each gate."""
        return tuple(map(largest_singular_value, self.weights))

    @property
    def sigma_max(self) -> float:
        """``sigma_max(W_hh)``, the gates one below the other."""
        if len(self.weights) == 1:
            return self.sigmas[0]
        return largest_singular_value(np.concatenate(self.weights))


def steps_of(layer: Cell, cache: RecurrentCache) -> Steps:
    """Of all packed rows of a forward pass of ``layer``.

    Raises :class:`InputError` for a cell that :data:`FORMULAS` does not have.
    """
    families = type(layer).__mro__
    if isinstance(layer, Recurrent) and not layer.kind():
        families = families[:1]  # a cell with its own mathematics has to be named itself
    formula = next((FORMULAS[family] for family in families if family in FORMULAS), None)
    slopes_of = next((SLOPES[family] for family in families if family in SLOPES), None)
    if formula is None or slopes_of is None:
        known = ", ".join(kind.__name__ for kind in FORMULAS)
        raise InputError(
            f"no formula for the Jacobian of {type(layer).__name__}; there is one for {known}: "
            f"add one to npnlp.gradients.steps.FORMULAS, and its derivatives to SLOPES"
        )
    host = layer.backend.to_numpy
    states, memory = tuple(map(host, cache.states)), tuple(map(host, cache.memory))
    slopes, carried = slopes_of(layer, states, memory, state_before(cache, -1))
    of_elman = formula is elman
    rounding = Rounding.of_elman(*slopes) if of_elman else Rounding.of_gates((*states, *memory))
    return Steps(formula, slopes, carried, gate_blocks(layer), rounding)


def gate_blocks(layer: Cell) -> Several:
    """``W_hh`` by gate, in float64 on the host."""
    weight = layer.backend.to_numpy(layer.weight("weight_hh")).astype(np.float64)
    return tuple(np.split(weight, len(layer.gates)))


def gate_outputs(layer: Cell, cache: RecurrentCache) -> NDArray[Any]:
    """What each gate said, on the host: ``(G, N, H)``; of an Elman layer its states."""
    host = layer.backend.to_numpy
    return host(cache.hidden)[None] if isinstance(layer, Elman) else host(cache.memory[0])


def relative_slopes(layer: Cell, cache: RecurrentCache, steps: Steps) -> NDArray[Any]:
    """The slope of each unit of each gate over the largest that it can have: ``(G, N, H)``.

    1 where it is not saturated. ``phi'(a)`` for Elman; for gates ``4 sigma (1 - sigma)`` and
    ``1 - tanh^2`` of the candidate.
    """
    if isinstance(layer, Elman):
        return steps.slopes[0][None]
    y = gate_outputs(layer, cache)
    slopes: NDArray[Any] = 4 * y * (1 - y)
    place = layer.gates.index("candidate" if isinstance(layer, LSTM) else "new")
    slopes[place] = 1 - y[place] * y[place]
    return slopes


def largest_singular_value(matrix: Floats) -> float:
    """``sigma_max``, from the smaller of ``A A^T`` and ``A^T A``."""
    tall = len(matrix) > matrix.shape[1]
    gram = matrix.T @ matrix if tall else matrix @ matrix.T
    return float(np.sqrt(np.linalg.eigvalsh(gram)[-1]))


def sum_of(parts: Parts) -> Any:
    """The parts added up: the Jacobian, or its bound."""
    first, *others = parts.values()
    for part in others:
        first = first + part
    return first


def _largest(factor: Floats) -> Floats:
    """``max |v|`` of each row, ``(N, 1)`` in float64."""
    largest: Floats = np.abs(factor).max(axis=1, keepdims=True).astype(np.float64)
    return largest


def _rows(vector: Floats, matrix: Floats) -> Floats:
    """``diag(v) A``."""
    scaled: Floats = vector[..., None] * matrix
    return scaled


def _diagonal(vector: Floats) -> Floats:
    diagonal: Floats = vector[..., None] * np.eye(vector.shape[-1])
    return diagonal


def _to_both(s: Floats, to_c: Floats, zero: Floats) -> Floats:
    """What reaches c reaches h, too, by ``s = dh/dc``."""
    return np.block([[_rows(s, to_c), zero], [to_c, zero]])
