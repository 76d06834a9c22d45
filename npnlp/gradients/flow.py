"""Gradient flow: how much gradient reaches each step, seen inside real backpropagation.

A *lag* counts steps back from each sequence's own last one, so that names of all lengths line up.
For each packed row, with ``d_t = dL/dh_t`` and ``delta_t`` the gradient of the products with
``W_hh``, which for Elman is ``dL/da_t = phi'(a_t) * d_t``:

    (1)  |d_t|                                         what reaches the step
    (2)  S_k = sum over rows of lag k of delta_t h_{t-1}^T
                                                       its share of dL/dW_hh = sum_k S_k
    (3)  mean phi'(a_t)                                how far from saturated the units are
    (4)  b_T = |d_T|,  b_{t-1} = sigma_max(W_hh) max phi'(a_t) b_t + |dL/dh_{t-1} from above|
                                                       the chain rule's bound: |d_t| <= b_t

The whole gradient can look healthy while every far share is zero; (2) shows it. (4) is
``|d_{t-1}| = |W_hh^T (phi'(a_t) * d_t)| <= |W_hh^T| max phi'(a_t) |d_t|``, step after step.

Cells with gates have in (2) the rows of all gates one below the other (``gates.py`` shows them
apart); in (3) the mean over all gates of the slope relative to the largest that it can have; and in
(4) the factor of their own Jacobian (``steps.py``), for the LSTM with ``b`` the pair of bounds on
``|dL/dh_t|`` and ``|dL/dc_t|``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.gradients.rounding import norms_of
from npnlp.gradients.shares import lags_of, shares_by_lag, sum_shares
from npnlp.gradients.steps import relative_slopes, steps_of
from npnlp.layers.attention.attention import AttentionTrace
from npnlp.layers.packing import Packing
from npnlp.layers.recurrent.memory import RecurrentTrace
from npnlp.summary import summarized

Floats = NDArray[np.float64]

#: The columns of ``gradient_flow.csv`` after ``epoch`` and ``layer``.
COLUMNS = (
    "lag",
    "hidden_grad_mean",
    "hidden_grad_q25",
    "hidden_grad_q50",
    "hidden_grad_q75",
    "weight_hh_share",
    "saturation",
    "sigma_max",
    "spectral_radius",
    "bound",
)


@summarized
@dataclass(frozen=True)
class GradientFlow:
    """What one backward pass of a recurrent layer shows, a row for each packed row, on the host.

    ``lags (N,)``; ``hidden_grad (N,)`` is (1), ``saturation (N,)`` is (3), ``bound (N,)`` is (4);
    ``shares (K, G H, H)`` is (2) for lags 0 to K-1, in the layer's dtype; ``sigma_max`` is of
    ``W_hh``, ``spectral_radius`` the largest of its G square blocks.
    """

    lags: NDArray[np.int64]
    hidden_grad: Floats
    saturation: Floats
    bound: Floats
    shares: Floats
    sigma_max: float
    spectral_radius: float

    def table(self) -> Floats:
        """A row a lag, with ``COLUMNS``: means and quartiles over the sequences that have it."""
        order = np.argsort(self.lags, kind="stable")
        counts = np.bincount(self.lags)
        starts = np.cumsum(counts) - counts
        # Within each lag by size: a quartile is then a place.
        by_size = np.lexsort((self.hidden_grad, self.lags))
        quartiles = [_quantile(self.hidden_grad[by_size], starts, counts, q) for q in (1, 2, 3)]

        def mean(values: Floats) -> Floats:
            averages: Floats = np.add.reduceat(values[order], starts) / counts
            return averages

        constant = np.ones(len(counts))
        return np.column_stack(
            [
                np.arange(len(counts)),
                mean(self.hidden_grad),
                *quartiles,
                np.sqrt((self.shares**2).sum(axis=(1, 2))),
                mean(self.saturation),
                self.sigma_max * constant,
                self.spectral_radius * constant,
                mean(self.bound),
            ]
        )


def merge(flows: Sequence[GradientFlow]) -> GradientFlow:
    """Several batches of one loss and one layer as one: rows together, shares added."""

    def joined(name: str) -> Any:
        return np.concatenate([getattr(flow, name) for flow in flows])

    return GradientFlow(
        lags=joined("lags"),
        hidden_grad=joined("hidden_grad"),
        saturation=joined("saturation"),
        bound=joined("bound"),
        shares=sum_shares([flow.shares for flow in flows]),
        sigma_max=flows[0].sigma_max,
        spectral_radius=flows[0].spectral_radius,
    )


def gradient_flow(trace: RecurrentTrace | AttentionTrace) -> GradientFlow:
    """What ``trace``, kept by ``layer.backward(..., probe=...)``, shows.

    Of an attention layer that is (1) for the output of all heads, ``dL/do_t``, and nothing else:
    it has no ``W_hh``, and what has to do with one is NaN (``heads.py`` shows the heads).
    """
    if isinstance(trace, AttentionTrace):
        return _of_attention(trace)
    layer, cache = trace.layer, trace.cache
    lags = lags_of(cache.packing)
    steps = steps_of(layer, cache)
    host = layer.backend.to_numpy
    norms = tuple(norms_of(host(d)) for d in trace.d_states)
    from_above = np.zeros(cache.packing.rows)
    if trace.from_above is not None:
        from_above = norms_of(host(trace.from_above)) * steps.wider
    return GradientFlow(
        lags=lags,
        hidden_grad=norms[0],
        saturation=relative_slopes(layer, cache, steps).mean(axis=(0, 2)).astype(np.float64),
        bound=bounds(norms, steps.bounds(), from_above, cache.packing, steps.least)[0],
        shares=shares_by_lag(trace, lags),
        sigma_max=steps.sigma_max,
        spectral_radius=max(map(spectral_radius, steps.weights)),
    )


def _of_attention(trace: AttentionTrace) -> GradientFlow:
    packing = trace.cache.packing
    lags, nothing = lags_of(packing), np.full(packing.rows, np.nan)
    d = packing.backend.to_numpy(trace.d_heads).astype(np.float64)
    return GradientFlow(
        lags=lags,
        hidden_grad=norms_of(d.reshape(len(d), -1)),
        saturation=nothing,
        bound=nothing,
        shares=np.full((len(packing.batch_sizes), 1, 1), np.nan),
        sigma_max=np.nan,
        spectral_radius=np.nan,
    )


def spectral_radius(matrix: Floats) -> float:
    """The largest ``|eigenvalue|``, as ``|A^k|^(1/k)`` (Gelfand, 1941) at ``k = 2^20``.

    Right to some parts in a million, in a third of the time that all eigenvalues take.
    """
    logarithm, power = 0.0, matrix
    for halvings in range(21):
        norm = float(np.sqrt(np.vdot(power, power)))
        if norm == 0.0:
            return 0.0
        logarithm += math.log(norm) * 0.5**halvings
        power = power / norm
        power = power @ power
    return math.exp(logarithm)


def bounds(
    norms: tuple[Floats, ...], factors: Floats, from_above: Floats, packing: Packing,
    least: float = 0.0,
) -> tuple[Floats, ...]:  # fmt: skip
    """(4) of every packed row and each of S states, from the last step down.

    ``norms``, of each state's gradient ``(N,)``; ``factors (N, S, S)`` are those of
    :meth:`Steps.bounds`; ``from_above (N,)`` comes to the first state, and ``least`` to each
    (``rounding.py``).
    """
    bound = tuple(state.copy() for state in norms)  # stands where a sequence has its last step
    offsets, sizes = packing.offsets, packing.batch_sizes
    # By column: state n of the step before gets something from each state m of the step after.
    columns = [[factors[:, m, n] for m in range(len(norms))] for n in range(len(norms))]
    for t in range(len(sizes) - 2, -1, -1):
        start, after, running = offsets[t], offsets[t + 1], sizes[t + 1]
        now, then = slice(start, start + running), slice(after, after + running)
        for state, column in zip(bound, columns, strict=True):
            first, *others = (
                part[then] * later[then] for part, later in zip(column, bound, strict=True)
            )
            state[now] = sum(others, first)
            state[now] += least
        bound[0][now] += from_above[now]
    return bound


def _quantile(
    values: Floats, starts: NDArray[np.int64], counts: NDArray[np.int64], quarter: int
) -> Floats:
    """The quartile ``quarter`` of each run of sorted ``values``, interpolated as NumPy does."""
    place = (counts - 1) * (quarter / 4)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, counts - 1)
    below, above = values[starts + low], values[starts + high]
    interpolated: Floats = below + (place - low) * (above - below)
    return interpolated
