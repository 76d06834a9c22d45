"""A bag of n-grams: which n-grams a sequence contains, wherever they stand in it.

    (1)  k_1 = token_t + 1,  k_n = k_{n-1} of the step before * (V + 1) + token_t + 1
                                                 the key of the n tokens that end at step t
    (2)  r = row of k_n among the known keys     unknown n-grams are left out
    (3)  each n-gram is dropped with probability p, in training
    (4)  y_b = sum of weight[r] / sqrt(m_b)      over the m_b n-grams of sequence b that remain

Backward: ``dweight[r] = sum of dy_b / sqrt(m_b)`` over the occurrences of n-gram r.

In a "wide and deep" model the recurrent (deep) part generalises over the order of characters, and
the bag (the wide part) memorises. Source: Cheng et al., "Wide & deep learning for recommender
systems", 2016; Joulin et al., "Bag of tricks for efficient text classification", 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array, Random
from npnlp.checks import require_fraction, require_whole
from npnlp.errors import InputError
from npnlp.layers.arguments import require_cache, require_indices, require_random, require_rows
from npnlp.layers.base import Cache, Layer, LayerOptions
from npnlp.layers.packing import Packing
from npnlp.summary import summarized


@summarized
class FoundNgrams(NamedTuple):
    """Of a batch's M n-grams, ``rows (M,)`` of the weight, and ``known (M,)``: whether it has one.

    ``sequences (M,)`` are those that they stand in.
    """

    rows: Array
    known: Array
    sequences: Array


class NgramCache(Cache):
    """For M n-grams, ``rows (M,)`` of the weight and ``sequences (M,)``; ``scale (B, 1)``.

    ``known (M,)`` says which of them count; None where all do.
    """

    rows: Array
    sequences: Array
    scale: Array
    known: Array | None = None


class NgramBag(Layer):
    """``weight (R, F)``, one row per known n-gram, and ``keys (R,)``, their sorted keys.

    ``orders`` are the values of n. The keys are not learned; :func:`known_ngrams` finds those of a
    text. Weights start normal with standard deviation 0.1. Raises :class:`InputError` where the
    keys of V tokens do not fit into 62 bits, for ``num_ngrams`` below 1, and for a dropout outside
    ``[0, 1)``.
    """

    def __init__(
        self, num_ngrams: int, features: int, *, orders: Sequence[int], num_tokens: int,
        dropout: float = 0.0, **options: Unpack[LayerOptions],
    ) -> None:  # fmt: skip
        super().__init__(**options)
        _require_orders(orders, num_tokens)
        require_whole("num_ngrams", num_ngrams)
        require_whole("features", features)
        require_fraction("dropout of NgramBag", dropout)
        self.orders, self.num_tokens, self.dropout = tuple(orders), num_tokens, dropout
        self.keys: Array = self.backend.asarray(np.arange(num_ngrams, dtype=np.int64))
        self.add_parameter("weight", lambda random: 0.1 * random.normal((num_ngrams, features)))

    @staticmethod
    def keys_of(
        tokens: Array, packing: Packing, orders: Sequence[int], num_tokens: int
    ) -> tuple[Array, Array]:
        """(1): the keys of all n-grams of packed ``tokens (N,)``, and the rows they end at."""
        backend, xp = packing.backend, packing.backend.xp
        first = packing.batch_sizes[0]
        key = tokens.astype(np.int64) + 1  # (1), n = 1
        own, keys, rows = key, [], []
        steps = backend.asarray(packing.steps)
        for n in range(1, max(orders) + 1):
            if n > 1:
                longer = key.copy()
                longer[first:] = key.take(packing.previous_rows) * (num_tokens + 1) + own[first:]
                key = longer  # (1); rows with fewer than n tokens are left out below
            if n in orders:
                complete = xp.flatnonzero(steps >= n - 1)
                keys.append(key.take(complete))
                rows.append(complete)
        return xp.concatenate(keys), xp.concatenate(rows)

    def find(self, tokens: Array, packing: Packing) -> FoundNgrams:
        """(1) and (2): the n-grams of packed ``tokens (N,)``."""
        xp = self.backend.xp
        keys, packed = self.keys_of(tokens, packing, self.orders, self.num_tokens)  # (1)
        rows = xp.minimum(xp.searchsorted(self.keys, keys), len(self.keys) - 1)
        sequences = self.backend.asarray(packing.sequences).take(packed)
        return FoundNgrams(rows, self.keys.take(rows) == keys, sequences)  # (2)

    def rows_at(self, tokens: NDArray[np.integer], keys: NDArray[np.int64]) -> NDArray[np.int32]:
        """``(J, n)``: for each order, the row of the n-gram that ends at each of ``tokens (n,)``.

        -1 where it has none. On the host, as the ``keys`` are; where names begin is not looked at.
        """
        own, rows = tokens.astype(np.int64) + 1, []
        key = own  # (1), n = 1
        for n in range(1, max(self.orders) + 1):
            if n > 1:
                key = np.append(0, key[:-1]) * (self.num_tokens + 1) + own  # (1)
            if n in self.orders:
                found = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
                rows.append(np.where(keys[found] == key, found, -1))  # (2)
        return np.array(rows, dtype=np.int32)

    def forward(
        self, tokens: Array, random: Random | None = None, *, packing: Packing,
        found: FoundNgrams | None = None,
    ) -> tuple[Array, NgramCache]:  # fmt: skip
        """``y (B, F)``, in the caller's order, of packed ``tokens (N,)``.

        ``found`` is what :meth:`find` returns of them, where it is known already.
        """
        xp, batch = self.backend.xp, len(packing.lengths)
        rows, known, sequences = found or self.find(tokens, packing)
        if random is not None and self.dropout:
            stream = random.from_steps(*(n - 1 for n in sorted(set(self.orders))))
            known = known & self.backend.keep_mask(stream, known.shape, self.dropout)  # (3)
        if passes := self.backend.bag_passes(self.dtype):
            weight = self.parameters["weight"]
            y, scale = passes.forward(weight, rows, known, sequences, batch)
            return y, NgramCache(rows, sequences, scale, known)
        left = xp.flatnonzero(known)
        rows, sequences = rows.take(left), sequences.take(left)
        counts = xp.maximum(xp.bincount(sequences, minlength=batch), 1)
        scale = (counts[:, None] ** -0.5).astype(self.dtype)
        chosen = self.parameters["weight"].take(rows, axis=0)
        sums = self.backend.segment_sum(chosen, sequences, batch)
        return sums * scale, NgramCache(rows, sequences, scale)  # (4)

    def backward(self, dy: Array, cache: NgramCache) -> None:
        """Add ``dL/dweight``; tokens are integers and have no gradient."""
        if cache.known is not None and (passes := self.backend.bag_passes(self.dtype)):
            passes.backward(
                dy, cache.scale, cache.rows, cache.known, cache.sequences, self.grads["weight"]
            )
            return
        d_chosen = (dy * cache.scale).take(cache.sequences, axis=0)
        self.backend.scatter_add(self.grads["weight"], cache.rows, d_chosen)  # undoes (4)

    def check_forward(
        self, tokens: Array, random: Random | None = None, *, packing: Packing,
        found: FoundNgrams | None = None,
    ) -> None:  # fmt: skip
        """See :class:`Layer`."""
        require_random(random)
        require_rows(tokens, packing, "tokens")
        require_indices("tokens", tokens, packing.rows, self.num_tokens, self.backend)

    def check_backward(self, dy: Array, cache: NgramCache) -> None:
        """See :class:`Layer`."""
        require_cache(cache, NgramCache)
        size, features = self.parameters["weight"].shape
        require_indices("rows of the cache", cache.rows, None, size, self.backend)
        self.expect("dy", dy, len(cache.scale), features)


def known_ngrams(
    tokens: Array, packing: Packing, orders: Sequence[int], num_tokens: int, min_count: int = 1
) -> NDArray[Any]:
    """The sorted keys of the n-grams that ``min_count`` sequences or more contain, on the host.

    Raises :class:`InputError` where the keys of V tokens do not fit into 62 bits.
    """
    _require_orders(orders, num_tokens)
    require_rows(tokens, packing, "tokens")
    require_indices("tokens", tokens, packing.rows, num_tokens, packing.backend)
    keys, rows = map(
        packing.backend.to_numpy, NgramBag.keys_of(tokens, packing, orders, num_tokens)
    )
    known, places = np.unique(keys, return_inverse=True)
    batch = len(packing.lengths)
    contained = np.unique(places * batch + packing.sequences[rows])  # an n-gram and a sequence
    counts = np.bincount(contained // batch, minlength=len(known))
    return known[counts >= min_count]


def _require_orders(orders: Sequence[int], num_tokens: int) -> None:
    if not orders or min(orders) < 1 or (num_tokens + 1) ** max(orders) >= 2**62:
        raise InputError(
            f"orders are {list(orders)}; they have to be above 0, and small enough for "
            f"{num_tokens} tokens"
        )
