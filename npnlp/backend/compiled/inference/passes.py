"""Many sequences from tokens to probabilities, compiled.

It does what :class:`npnlp.inference.reader.Reader` does in arrays as a whole, and is handed what
that has: a table of projected inputs, weights, and the names of poolings. Between two passes lies
an array of so few sequences that it stays in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from npnlp.backend.base import Array
from npnlp.backend.compiled.inference import head, ngrams
from npnlp.backend.compiled.inference import walk as trees
from npnlp.backend.compiled.inference.prefixes import TREE, Prefixes, sort

__all__ = ["KINDS", "add_linear", "add_ngrams", "blocks", "finish", "sort", "walk"]

#: The walk of each kind of cell.
KINDS: dict[str, Any] = {
    "elman_tanh": trees.walk_elman_tanh, "elman_relu": trees.walk_elman_relu,
    "gru": trees.walk_gru, "lstm": trees.walk_lstm,
}  # fmt: skip
POOLINGS = {"last": trees.LAST, "mean": trees.MEAN, "max": trees.MAX}
#: What is made of the sequences of a block are about so many numbers.
BLOCK_NUMBERS = 2**17


def blocks(count: int, width: int) -> list[slice]:
    """``count`` sequences in blocks of whole trees; of each of them ``width`` numbers are made."""
    size = TREE * max(1, BLOCK_NUMBERS // (TREE * width))
    return [slice(low, min(low + size, count)) for low in range(0, count, size)]


def walk(
    kind: str, prefixes: Prefixes, block: slice, poolings: Sequence[str], table: Array, w_hh: Array,
    extra: Array | None,
) -> Array:  # fmt: skip
    """What the poolings make of the sequences of a block, side by side: ``(m, P H)``.

    ``table (G, V, H)`` is the input of each token, projected; ``w_hh (G H, H)``; ``extra (H,)`` is
    :meth:`npnlp.layers.recurrent.cell.Cell.bias_in_step`.
    """
    size = w_hh.shape[1]
    bias = np.zeros((1, size), table.dtype) if extra is None else extra.reshape(1, size)
    codes = np.array([POOLINGS[pooling] for pooling in poolings])
    out = np.empty((block.stop - block.start, len(poolings) * size), dtype=table.dtype)
    KINDS[kind](prefixes, block.start, block.stop, codes, table, w_hh.T, bias, out)
    return out


def add_ngrams(
    prefixes: Prefixes, orders: Sequence[int], num_tokens: int, known: Array, weights: Array,
    sums: Array,
) -> None:  # fmt: skip
    """Add to ``sums (n, O)`` what a bag of n-grams makes of all sequences.

    ``known (R,)`` are its keys and ``weights (R, O)`` their rows: see :mod:`npnlp.layers.ngrams`.
    """
    ngrams.add_ngrams(prefixes, np.array(orders), num_tokens, known, weights, sums)


def add_linear(x: Array, weights: Array, rows: Array, sums: Array) -> None:
    """``sums[rows] += x W`` of ``x (m, K)``, ``weights (K, O)`` and ``sums (n, O)``."""
    head.add_linear(x, weights, rows, sums)


def finish(
    x: Array, weights: Array, rows: Array, sums: Array | None, bias: Array,
    last: tuple[Array, Array] | None, found: Array | tuple[Array, Array],
) -> None:  # fmt: skip
    """``softmax(y)``, where ``y = sums[rows] + x W + b``, which may go through more, is ``found``.

    ``weights (K, O)``; ``last`` are the weights ``(C, O)`` and the bias of a linear layer of what
    ReLU leaves of y. What is found goes to ``found[rows]``, ``(n, C)``, or to two arrays ``(n,)``:
    of each row where it is largest, the first of equals, and that number.
    """
    kind = x.dtype
    if sums is None:
        sums = np.empty((0, weights.shape[1]), kind)
    weights_of_last, last_bias = last or (np.empty((len(bias), 0), kind), bias)
    if isinstance(found, tuple):
        whole, (classes, shares) = np.empty((0, len(last_bias)), kind), found
    else:
        whole, classes, shares = found, np.empty(0, np.int64), np.empty(0, kind)
    arguments = x, weights.T, rows, sums, bias, weights_of_last, last_bias, whole, classes, shares
    head.finish(*arguments)
