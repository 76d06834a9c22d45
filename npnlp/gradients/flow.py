"""Gradient flow: how much gradient reaches each step, seen inside real backpropagation.

A *lag* counts steps back from each sequence's own last one, so that names of all lengths line up.
For each packed row, with ``d_t = dL/dh_t`` and ``delta_t = dL/da_t = phi'(a_t) * d_t``:

    (1)  |d_t|                                         what reaches the step
    (2)  S_k = sum over rows of lag k of delta_t h_{t-1}^T
                                                       its share of dL/dW_hh = sum_k S_k
    (3)  mean phi'(a_t)                                how far from saturated the units are
    (4)  b_T = |d_T|,  b_{t-1} = sigma_max(W_hh) max phi'(a_t) b_t + |dL/dh_{t-1} from above|
                                                       the chain rule's bound: |d_t| <= b_t

The whole gradient can look healthy while every far share is zero; (2) shows it. (4) is
``|d_{t-1}| = |W_hh^T (phi'(a_t) * d_t)| <= |W_hh^T| max phi'(a_t) |d_t|``, step after step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.layers.recurrent import Recurrent, RecurrentTrace

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


@dataclass(frozen=True)
class GradientFlow:
    """What one backward pass of a recurrent layer shows, a row for each packed row, on the host.

    ``lags (N,)``; ``hidden_grad (N,)`` is (1), ``saturation (N,)`` is (3), ``bound (N,)`` is (4);
    ``shares (K, H, H)`` is (2) for lags 0 to K-1, in the layer's dtype; ``sigma_max`` and
    ``spectral_radius`` are of ``W_hh``.
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
    longest = max(len(flow.shares) for flow in flows)
    shares = np.zeros((longest, *flows[0].shares.shape[1:]))
    for flow in flows:
        shares[: len(flow.shares)] += flow.shares

    def joined(name: str) -> Any:
        return np.concatenate([getattr(flow, name) for flow in flows])

    return GradientFlow(
        lags=joined("lags"),
        hidden_grad=joined("hidden_grad"),
        saturation=joined("saturation"),
        bound=joined("bound"),
        shares=shares,
        sigma_max=flows[0].sigma_max,
        spectral_radius=flows[0].spectral_radius,
    )


def gradient_flow(layer: Recurrent, trace: RecurrentTrace) -> GradientFlow:
    """What ``trace``, kept by ``layer.backward(..., probe=...)``, shows."""
    host = layer.backend.to_numpy
    cache, packing, d = trace.cache, trace.cache.packing, host(trace.d_hidden)
    lags = packing.longest_first[packing.places] - 1 - packing.steps
    derivatives = host(layer.derivative(cache.hidden))
    weight = host(layer.parameters["weight_hh_l0"]).astype(np.float64)
    sigma_max = float(np.sqrt(np.linalg.eigvalsh(weight @ weight.T)[-1]))
    norms = np.linalg.norm(d.astype(np.float64), axis=1)
    from_above = np.zeros(packing.rows)
    if trace.from_above is not None:
        from_above = np.linalg.norm(host(trace.from_above), axis=1)
    slopes = sigma_max * derivatives.max(axis=1).astype(np.float64)
    return GradientFlow(
        lags=lags,
        hidden_grad=norms,
        saturation=derivatives.mean(axis=1).astype(np.float64),
        bound=_bound(norms, slopes, from_above, packing.offsets, packing.batch_sizes),
        shares=_shares(layer, trace, lags),
        sigma_max=sigma_max,
        spectral_radius=spectral_radius(weight),
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


def _bound(
    norms: Floats, slopes: Floats, from_above: Floats, offsets: list[int], sizes: list[int]
) -> Floats:
    """(4) of every packed row, from the last step down; ``slopes`` are sigma_max max phi'(a_t)."""
    bound = norms.copy()  # stands where a sequence has its last step
    for t in range(len(sizes) - 2, -1, -1):
        start, after, running = offsets[t], offsets[t + 1], sizes[t + 1]
        bound[start : start + running] = (
            slopes[after : after + running] * bound[after : after + running]
            + from_above[start : start + running]
        )
    return bound


def _shares(layer: Recurrent, trace: RecurrentTrace, lags: NDArray[np.int64]) -> Floats:
    """(2) for each lag, ``(K, H, H)``, in the dtype of the layer."""
    host, cache = layer.backend.to_numpy, trace.cache
    hidden, delta, first = host(cache.hidden), host(trace.delta), cache.packing.batch_sizes[0]
    previous = np.zeros_like(hidden)  # h_0 is zero, unless given
    previous[first:] = hidden[host(cache.packing.previous_rows)]
    if cache.h0 is not None:
        previous[:first] = host(cache.h0)
    order = np.argsort(lags, kind="stable")
    delta, previous = delta[order], previous[order]
    ends = np.cumsum(np.bincount(lags)).tolist()
    shares = np.empty((len(ends), layer.hidden_size, layer.hidden_size), dtype=delta.dtype)
    for lag, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        np.dot(delta[start:end].T, previous[start:end], out=shares[lag])
    return shares


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
