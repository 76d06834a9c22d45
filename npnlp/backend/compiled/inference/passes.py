"""Many sequences from tokens to probabilities, compiled: see :class:`PrefixPasses`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled import products
from npnlp.backend.compiled.inference import head
from npnlp.backend.compiled.inference import walk as trees
from npnlp.backend.compiled.inference.ngrams import sum_ngrams
from npnlp.backend.compiled.inference.prefixes import TREE, Prefixes, sort
from npnlp.backend.prefix_passes import Integers

#: The walk of each kind of cell.
WALKS: dict[str, Callable[..., None]] = {
    "elman_tanh": trees.walk_elman_tanh, "elman_relu": trees.walk_elman_relu,
    "gru": trees.walk_gru, "lstm": trees.walk_lstm,
}  # fmt: skip
POOLINGS = {"last": trees.LAST, "mean": trees.MEAN, "max": trees.MAX}
#: A pass computes about this many numbers for a block of sequences: they stay in the cache.
BLOCK_NUMBERS = 2**17


class CompiledTrees:
    """See :class:`PrefixTrees`."""

    def __init__(self, kind: str, prefixes: Prefixes, num_tokens: int, width: int) -> None:
        self.kind, self.prefixes, self.num_tokens = kind, prefixes, num_tokens
        self.order, self.repeats, self.originals = (
            prefixes.order, prefixes.repeats, prefixes.originals
        )  # fmt: skip
        size = TREE * max(1, BLOCK_NUMBERS // (TREE * width))
        count = len(self.order)
        self.blocks = [slice(low, min(low + size, count)) for low in range(0, count, size)]

    def walk(
        self, block: slice, poolings: Sequence[str], table: Array, w_hh: Array, bias: Array | None
    ) -> Array:
        """See :meth:`PrefixTrees.walk`."""
        size = w_hh.shape[1]
        bias = np.zeros((1, size), table.dtype) if bias is None else bias.reshape(1, size)
        lengths = self.prefixes.lengths[block].astype(table.dtype)
        codes = np.array([POOLINGS[pooling] for pooling in poolings])
        out = np.empty((block.stop - block.start, len(poolings) * size), dtype=table.dtype)
        arguments = self.prefixes, block.start, block.stop, codes, table, w_hh.T, bias, out
        WALKS[self.kind](*arguments)
        for place, pooling in enumerate(poolings):
            if pooling == "mean":
                out[:, place * size : (place + 1) * size] /= lengths[:, None]
        return out

    def ngrams(self, orders: Sequence[int], keys: Array, weights: Array) -> Array:
        """See :meth:`PrefixTrees.ngrams`."""
        out = np.empty((len(self.order), weights.shape[1]), dtype=weights.dtype)
        sum_ngrams(self.prefixes, np.array(orders), self.num_tokens, keys, weights, out)
        return out


class CompiledPrefixPasses:
    """See :class:`PrefixPasses`; ``kind`` is that of the cells."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def sort(
        self, tokens: Integers, lengths: Integers, num_tokens: int, width: int, *, reverse: bool
    ) -> CompiledTrees:
        """See :meth:`PrefixPasses.sort`."""
        prefixes = sort(tokens, lengths, num_tokens, reverse)
        return CompiledTrees(self.kind, prefixes, num_tokens, width)

    def multiply(self, x: Array, weight: Array, before: Array | None) -> Array:
        """See :meth:`PrefixPasses.multiply`."""
        out = np.empty((1, len(x), len(weight)), dtype=x.dtype)
        products.affine(x, weight.T, np.zeros((1, len(weight)), x.dtype), out, 0, len(weight))
        y: Array = out[0]
        return y if before is None else y + before

    def finish(
        self, x: Array, weight: Array, before: Array | None, bias: Array,
        second: tuple[Array, Array] | None, *, best: bool,
    ) -> tuple[Array, ...]:  # fmt: skip
        """See :meth:`PrefixPasses.finish`."""
        kind, count = x.dtype, len(weight)
        if before is None:
            before = np.empty((0, count), kind)
        last, last_bias = second or (np.empty((count, 0), kind), bias)
        out = np.empty((0 if best else len(x), len(last_bias)), kind)
        found = np.empty(len(x) if best else 0, np.int64), np.empty(len(x) if best else 0, kind)
        head.finish(x, weight, before, bias, last, last_bias, out, *found)
        return found if best else (out,)
