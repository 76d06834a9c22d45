"""The Jacobian of one step of every cell, gate by gate, and the chain rule's bound on it.

With ``W_g`` the block of ``W_hh`` that belongs to gate g, and ``F_g`` the elementwise derivatives
that ``Recurrent.slopes`` gives, ``J_t = d state_t / d state_{t-1}`` is

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
from npnlp.layers.recurrent.elman import Elman
from npnlp.layers.recurrent.gates import Gated
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


#: The formula of each cell. A subclass of a cell has that of the cell, unless it is named itself.
FORMULAS: dict[type[Recurrent], Formula] = {
    Elman: elman, GRU: gru, GRUResetBefore: gru_reset_before, LSTM: lstm,
}  # fmt: skip


@summarized
@dataclass(frozen=True)
class Steps:
    """What the Jacobians of many steps are made of, a row a step, on the host.

    ``slopes``, towards each block of ``delta``, and ``carried``, the rest that ``Recurrent.slopes``
    returns, each ``(N, H)``; ``weights``, of each gate ``(H, H)``.
    """

    formula: Formula
    slopes: Several
    carried: Several
    weights: Several

    def parts(self, row: int) -> Parts:
        """The Jacobian of the step in ``row`` by gate, each ``(S H, S H)`` with S states."""
        slopes, carried = (tuple(f[row] for f in kind) for kind in (self.slopes, self.carried))
        return self.formula(slopes, carried, self.weights)

    def bounds(self) -> Floats:
        """``M_t`` of (5) or (6) for every row: ``(N, S, S)``."""
        slopes, carried = (tuple(map(_largest, kind)) for kind in (self.slopes, self.carried))
        sigmas = tuple(np.full((1, 1), sigma) for sigma in self.sigmas)
        bounds: Floats = sum_of(self.formula(slopes, carried, sigmas))
        return bounds

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


def steps_of(layer: Recurrent, cache: RecurrentCache) -> Steps:
    """Of all packed rows of a forward pass of ``layer``.

    Raises :class:`InputError` for a cell that :data:`FORMULAS` does not have.
    """
    formula = next((FORMULAS[kind] for kind in type(layer).__mro__ if kind in FORMULAS), None)
    if formula is None:
        known = ", ".join(kind.__name__ for kind in FORMULAS)
        raise InputError(
            f"no formula for the Jacobian of {type(layer).__name__}; there is one for {known}: "
            f"add one to npnlp.gradients.steps.FORMULAS"
        )
    host, xp = layer.backend.to_numpy, layer.backend.xp
    shape = (len(cache.hidden), layer.deltas * layer.hidden_size)
    delta = xp.empty(shape, dtype=cache.hidden.dtype)
    room = layer.room_for_slopes(len(delta), delta.dtype)
    carried = layer.slopes(tuple(cache.memory.values()), delta, room)
    return Steps(
        formula,
        tuple(np.split(host(delta), layer.deltas, axis=1)),
        tuple(host(factor) for factor in carried),
        gate_blocks(layer),
    )


def gate_blocks(layer: Recurrent) -> Several:
    """``W_hh`` by gate, in float64 on the host."""
    weight = layer.backend.to_numpy(layer.weight("weight_hh")).astype(np.float64)
    return tuple(np.split(weight, len(layer.gates)))


def gate_outputs(layer: Recurrent, cache: RecurrentCache) -> NDArray[Any]:
    """What each gate said, on the host: ``(G, N, H)``; of an Elman layer its states."""
    host = layer.backend.to_numpy
    return host(cache.memory["gates"]) if isinstance(layer, Gated) else host(cache.hidden)[None]


def relative_slopes(layer: Recurrent, cache: RecurrentCache, steps: Steps) -> NDArray[Any]:
    """The slope of each unit of each gate over the largest that it can have: ``(G, N, H)``.

    1 where it is not saturated. ``phi'(a)`` for Elman; for gates ``4 sigma (1 - sigma)`` and
    ``1 - tanh^2``, both of which are ``1 - y^2`` of the tanh that they are computed with.
    """
    if not isinstance(layer, Gated):
        return steps.slopes[0][None]
    # sigma is half of its tanh and a half; the candidate is a tanh itself.
    factor = layer.backend.to_numpy(layer.halves())[:: layer.hidden_size].reshape(-1, 1, 1)
    y: Any = (gate_outputs(layer, cache) - (1 - factor)) / factor
    slopes: NDArray[Any] = 1 - y * y
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
