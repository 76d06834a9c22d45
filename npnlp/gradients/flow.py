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
    (5)  |d_T| |dh_T/dh_t|_2                           the norm of the product of Jacobians, and the
                                                       share of d_T that survives it (``norms.py``)
    (6)  m_T^2 = |d_T|^2,  m_{t-1}^2 = chi_t m_t^2 + |dL/dh_{t-1} from above|^2
                                                       what mean-field theory says of |d_t| from the
                                                       weights and activations (``mean_field.py``)

The whole gradient can look healthy while every far share is zero; (2) shows it. (4) is
``|d_{t-1}| = |W_hh^T (phi'(a_t) * d_t)| <= |W_hh^T| max phi'(a_t) |d_t|``, step after step. Between
the two stands (5): ``|d_t| <= (5) <= b_t``. It is exact, of a few sequences of a batch, and in the
table, whose other columns are of all of them, as many times the gradient as it is there.

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

from npnlp.gradients.mean_field import growth
from npnlp.gradients.norms import norms_and_shares
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
    "product_norm",
    "surviving_share",
    "mean_field_grad",
)


@summarized
@dataclass(frozen=True)
class GradientFlow:
    """What one backward pass of a recurrent layer shows, a row for each packed row, on the host.

    ``lags (N,)``; ``hidden_grad (N,)`` is (1), ``saturation (N,)`` is (3), ``bound (N,)`` is (4);
    ``product_norm`` and ``surviving_share (N,)`` are (5), NaN for sequences of which no product was
    made; ``mean_field_grad (N,)`` is (6);
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
    product_norm: Floats
    surviving_share: Floats
    mean_field_grad: Floats

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

        constant, gradient, bound = np.ones(len(counts)), mean(self.hidden_grad), mean(self.bound)
        return np.column_stack(
            [
                np.arange(len(counts)),
                gradient,
                *quartiles,
                np.sqrt((self.shares**2).sum(axis=(1, 2))),
                mean(self.saturation),
                self.sigma_max * constant,
                self.spectral_radius * constant,
                bound,
                np.minimum(np.maximum(self._norm_of_all(gradient), gradient), bound),
                self._of_products(self.surviving_share) / self._of_products(self.lags >= 0),
                mean(self.mean_field_grad),
            ]
        )

    def _norm_of_all(self, gradient: Floats) -> Floats:
        """(5) by lag as a mean over all sequences, from those whose products were made.

        A ratio estimate (Cochran, "Sampling techniques", 1977, chapter 6): the mean ``gradient`` of
        all, by as much larger as (5) is there. It is exact where all products were made.
        """
        norm, count = self._of_products(self.product_norm), self._of_products(self.lags >= 0)
        theirs = self._of_products(self.hidden_grad)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.where(theirs > 0, gradient * (norm / theirs), norm / count)
        # A lag that only sequences without a gradient at their end have: (5) is the gradient.
        return np.where(np.isnan(found) & ~np.isnan(count).all(), gradient, found)

    def _of_products(self, values: NDArray[Any]) -> Floats:
        """The sum by lag over the sequences whose products were made; NaN where there are none."""
        made = ~np.isnan(self.product_norm)
        size = len(self.shares)
        sums = np.bincount(self.lags[made], values[made], size)
        counts = np.bincount(self.lags[made], minlength=size)
        return np.where(counts > 0, sums, np.nan)


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
        product_norm=joined("product_norm"),
        surviving_share=joined("surviving_share"),
        mean_field_grad=joined("mean_field_grad"),
    )


def gradient_flow(
    trace: RecurrentTrace | AttentionTrace, products: int | None = None
) -> GradientFlow:
    """What ``trace``, kept by ``layer.backward(..., probe=...)``, shows.

    ``products`` is the number of sequences of which the product of Jacobians is made, by default
    the few that training takes (:func:`npnlp.gradients.norms.chosen`).

    Of an attention layer that is (1) for the output of all heads, ``dL/do_t``, and nothing else:
    it has no ``W_hh``, and what has to do with one is NaN (``heads.py`` shows the heads).
    """
    if isinstance(trace, AttentionTrace):
        return _of_attention(trace)
    layer, cache = trace.layer, trace.cache
    lags = lags_of(cache.packing)
    steps = steps_of(layer, cache)
    host = layer.backend.to_numpy
    packing, d_states = cache.packing, tuple(map(host, trace.d_states))
    norms = tuple(map(norms_of, d_states))
    from_above = np.zeros(packing.rows)
    if trace.from_above is not None:
        from_above = norms_of(host(trace.from_above))
    bound = bounds(norms, steps.bounds(), from_above * steps.wider, packing, steps.least)[0]
    product_norm, surviving = norms_and_shares(steps, packing, d_states, products)
    return GradientFlow(
        lags=lags,
        hidden_grad=norms[0],
        saturation=relative_slopes(layer, cache, steps).mean(axis=(0, 2)).astype(np.float64),
        bound=bound,
        shares=shares_by_lag(trace, lags),
        sigma_max=steps.sigma_max,
        spectral_radius=max(map(spectral_radius, steps.weights)),
        product_norm=np.minimum(np.maximum(product_norm, norms[0]), bound),  # rounding
        surviving_share=surviving,
        mean_field_grad=mean_field_grad(norms, growth(steps), from_above, packing),
    )


def mean_field_grad(
    norms: tuple[Floats, ...], chi: Floats, from_above: Floats, packing: Packing
) -> Floats:
    """(6) of every packed row: the recursion of :func:`bounds` in squares."""
    with np.errstate(over="ignore", under="ignore"):
        squares = bounds(tuple(norm**2 for norm in norms), chi, from_above**2, packing)[0]
    found: Floats = np.sqrt(squares)
    return found


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
        product_norm=nothing,
        surviving_share=nothing,
        mean_field_grad=nothing,
    )


def spectral_radius(matrix: Floats) -> float:
    """The largest ``|eigenvalue|``, as ``|A^k|^(1/k)`` (Gelfand, 1941) at ``k = 2^20``.

    Right to some parts in a million, in a third of the time that all eigenvalues take.
    """
    logarithm, power, square = 0.0, matrix.copy(), np.empty_like(matrix)
    for halvings in range(21):
        norm = math.sqrt(np.vdot(power, power))
        if norm == 0.0:
            return 0.0
        logarithm += math.log(norm) * 0.5**halvings
        power *= 1 / norm
        np.matmul(power, power, out=square)
        power, square = square, power
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
