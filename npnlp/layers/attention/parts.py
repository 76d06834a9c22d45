"""A batch in parts that attend at a time, so that weights take no more memory than set here.

Sequences of like length go together, the longest first. One that is long goes alone, and some of
its queries at a time: T^2 weights are then never all there, and backward computes them again.
Source: Chen, Xu, Zhang and Guestrin, "Training deep nets with sublinear memory cost", 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from npnlp.backend import Array, Random
from npnlp.layers.attention.dot_product import DotProductAttention, DotProductCache
from npnlp.layers.base import Cache
from npnlp.layers.loss import softmax
from npnlp.layers.packing import Packing
from npnlp.summary import summarized

#: A batch with at most this many weights, over all heads, is left whole.
WHOLE = 2**22
#: A part of any other has at most this many.
MOST_WEIGHTS = 2**20


@summarized
class Part(NamedTuple):
    """Some sequences: ``rows`` of the batch, packed by ``packing``; ``queries`` at a time."""

    rows: Array | slice
    packing: Packing
    queries: int


class QueriesCache(Cache):
    """``q``, ``k``, ``v (1, heads, T, d)`` of a long sequence; the ``part``; the ``random``."""

    q: Array
    k: Array
    v: Array
    part: Part
    random: Random | None


def parts_of(packing: Packing, heads: int) -> list[Part]:
    """The parts of a batch; nearly always it is a single one, of all rows."""
    lengths, first, parts = packing.longest_first, 0, list[Part]()
    if len(lengths) * heads * int(lengths[0]) ** 2 <= WHOLE:
        return [Part(slice(None), packing, int(lengths[0]))]
    while first < len(lengths):
        longest = int(lengths[first])
        last = first + max(1, MOST_WEIGHTS // (heads * longest**2))
        own = Packing.of(lengths[first:last], packing.backend)
        rows = packing.runs[0].take(own.steps) + own.places + first
        queries = min(longest, max(1, MOST_WEIGHTS // (heads * longest)))
        parts.append(Part(packing.backend.asarray(rows), own, queries))
        first = last
    return parts


def attend(
    attention: DotProductAttention, q: Array, k: Array, v: Array, random: Random | None, part: Part
) -> tuple[Array, DotProductCache | QueriesCache]:
    """``attention`` of a part: ``o (B, heads, T, d)`` of q, k and v of that shape."""
    if part.queries >= q.shape[2]:
        return attention.forward(q, k, v, random, packing=part.packing)
    cache = QueriesCache(q, k, v, part, random)
    found = [forward[0] for _, forward in _by_queries(attention, cache)]
    return attention.backend.xp.concatenate(found, axis=2), cache


def attend_backward(
    attention: DotProductAttention, d_o: Array, cache: DotProductCache | QueriesCache
) -> tuple[Array, Array, Array]:
    """Undo :func:`attend`: ``(dL/dq, dL/dk, dL/dv)``."""
    if isinstance(cache, DotProductCache):
        return attention.backward(d_o, cache)
    xp = attention.backend.xp
    d_q, d_k, d_v = map(xp.zeros_like, (cache.q, cache.k, cache.v))
    for rows, (_, again) in _by_queries(attention, cache):
        of_q, of_k, of_v = attention.backward(d_o[:, :, rows], again)
        d_q[:, :, rows] = of_q
        d_k += of_k
        d_v += of_v
    return d_q, d_k, d_v


def last_weights(cache: DotProductCache | QueriesCache, packing: Packing) -> Array:
    """``(B, heads, T)``: the weights of each sequence's last query, nothing dropped."""
    if isinstance(cache, DotProductCache):
        last = packing.backend.asarray(packing.lengths - 1)
        return cache.weights[packing.backend.xp.arange(len(packing.lengths)), :, last]
    xp, (_, heads, steps, size) = packing.backend.xp, cache.q.shape
    s = xp.matmul(cache.q[0, :, -1:] * size**-0.5, cache.k[0].swapaxes(1, 2))
    return softmax(s.reshape(heads, steps), xp)[None]


def _by_queries(
    attention: DotProductAttention, cache: QueriesCache
) -> Iterator[tuple[slice, tuple[Array, DotProductCache]]]:
    """The forward pass of some queries after others, each with a stream of its own."""
    part = cache.part
    for first in range(0, cache.q.shape[2], part.queries):
        rows, stream = slice(first, first + part.queries), cache.random
        if stream is not None:
            stream = stream.child(f"from {first}")
        of_q = cache.q[:, :, rows]
        yield rows, attention.forward(of_q, cache.k, cache.v, stream, packing=part.packing)
