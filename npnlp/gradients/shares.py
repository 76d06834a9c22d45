"""Each step's own share of ``dL/dW_hh``, by lag.

    dL/dW_hh = sum over packed rows n of delta_n v_n^T = sum over lags k of S_k

where ``delta_n`` is the gradient of the product with ``W_hh``, and ``v_n`` what it was multiplied
with: ``h_{t-1}``, but for the candidate of :class:`GRUResetBefore`, where it is ``r * h_{t-1}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.layers.packing import Packing
from npnlp.layers.recurrent.gru import GRU, GRUResetBefore
from npnlp.layers.recurrent.memory import RecurrentCache, RecurrentTrace


def lags_of(packing: Packing) -> NDArray[np.int64]:
    """Of each packed row, how many steps it is before the last of its sequence: ``(N,)``.

    In the direction that the layer runs: for one that runs backward, the last is the first.
    """
    return packing.lags


def shares_by_lag(trace: RecurrentTrace, lags: NDArray[np.int64]) -> NDArray[Any]:
    """``S_k`` for lags 0 to K-1, ``(K, G H, H)`` on the host, in the dtype of the layer."""
    layer, order = trace.layer, np.argsort(lags, kind="stable")
    ends = np.cumsum(np.bincount(lags)).tolist()
    shape = (len(ends), len(layer.gates) * layer.hidden_size, layer.hidden_size)
    shares = np.empty(shape, dtype=layer.dtype)
    for gates, delta, operand in _products(trace):
        delta, operand = delta[order], operand[order]
        for lag, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            np.dot(delta[start:end].T, operand[start:end], out=shares[lag, gates])
    return shares


def _products(trace: RecurrentTrace) -> Iterator[tuple[slice, NDArray[Any], NDArray[Any]]]:
    """Rows of ``W_hh``, the gradient of their product, and what they were multiplied with."""
    layer, cache, host = trace.layer, trace.cache, trace.layer.backend.to_numpy
    delta, before = host(trace.delta), state_before(cache)
    if isinstance(layer, GRUResetBefore):
        new = layer.rows_of("new")
        yield new, delta[:, new], host(cache.memory[1])  # m = r * h_before
        yield slice(0, new.start), delta[:, : new.start], before
        return
    if isinstance(layer, GRU):  # r stands between q = W_hn h + b_hn and the sum
        new = layer.rows_of("new")
        delta = np.concatenate([delta[:, : new.start], delta[:, new] * host(cache.memory[0])[0]], 1)
    yield slice(None), delta, before


def state_before(cache: RecurrentCache, place: int = 0) -> NDArray[Any]:
    """A state in the step before each packed row, by default ``h_{t-1}``, on the host: ``(N, H)``.

    The initial one is zero, unless given.
    """
    host, first = cache.packing.backend.to_numpy, cache.packing.batch_sizes[0]
    states = host(cache.states[place])
    previous = np.zeros_like(states)
    previous[first:] = states[host(cache.packing.previous_rows)]
    if cache.initial is not None:
        previous[:first] = host(cache.initial[place])
    return previous


def sum_shares(shares: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """The shares of several batches added, those of a lag that one does not have being zero."""
    longest = max(map(len, shares))
    total = np.zeros((longest, *shares[0].shape[1:]))
    for of_batch in shares:
        total[: len(of_batch)] += of_batch
    return total


def mean_by_lag(values: NDArray[Any], lags: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean of the rows of ``values (N, ...)`` that have each lag: ``(K, ...)``."""
    order, counts = np.argsort(lags, kind="stable"), np.bincount(lags)
    sums = np.add.reduceat(values[order].astype(np.float64), np.cumsum(counts) - counts)
    means: NDArray[np.float64] = sums / counts.reshape(-1, *(1 for _ in values.shape[1:]))
    return means
