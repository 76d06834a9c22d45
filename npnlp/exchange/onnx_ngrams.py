"""The bag of n-grams in ONNX's operators; see npnlp/layers/ngrams.py.

ONNX has no search in a sorted list, so it is unrolled: with the list of keys padded to 2^k by a
number that no n-gram has, k halvings find the last key that is not above the given key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.exchange.onnx_graph import FLOATS, Graph
from npnlp.models import ClassifierConfig
from npnlp.models.surname_classifier import KEYS

NO_KEY = np.iinfo(np.int64).max


def ngram_bag(
    graph: Graph,
    tokens: str,
    steps: str,
    lengths: str,
    config: ClassifierConfig,
    state: Mapping[str, NDArray[Any]],
) -> str:
    """``(B, F)`` of padded ``tokens (B, T)``; ``steps (T,)``."""
    own = key = graph.add("Add", tokens, graph.constant(1))
    present = graph.add("Less", steps, graph.add("Unsqueeze", lengths, graph.integers(1)))
    keys, there = [], []
    for n in range(1, max(config.ngram_orders) + 1):
        if n > 1:  # the key of the step before, times V + 1, and this token
            longer = graph.add("Pad", key, graph.integers(0, 1, 0, 0))
            before = graph.add("Slice", longer, *(graph.integers(k) for k in (0, -1, 1)))
            before = graph.add("Mul", before, graph.constant(config.num_embeddings + 1))
            key = graph.add("Add", before, own)
        if n in config.ngram_orders:
            keys.append(key)
            begun = graph.add("GreaterOrEqual", steps, graph.constant(n - 1))
            there.append(graph.add("And", present, begun))
    sought = graph.add("Concat", *keys, axis=1)  # (B, M)
    rows, known = _search(graph, sought, state[KEYS])
    known = graph.add("And", known, graph.add("Concat", *there, axis=1))
    known = graph.add("Cast", known, to=FLOATS)
    weight = graph.constant(state["ngrams.weight"], "ngrams.weight")
    chosen = graph.add("Gather", weight, rows, axis=0)  # (B, M, F)
    chosen = graph.add("Mul", chosen, graph.add("Unsqueeze", known, graph.integers(2)))
    total = graph.add("ReduceSum", chosen, graph.integers(1), keepdims=0)
    count = graph.add("ReduceSum", known, graph.integers(1), keepdims=1)
    count = graph.add("Max", count, graph.constant(1.0))
    return str(graph.add("Div", total, graph.add("Sqrt", count)))


def _search(graph: Graph, sought: str, keys: NDArray[Any]) -> tuple[str, str]:
    """The row of each key in ``sought`` (0 where there is none), and whether there is one."""
    halvings = len(keys).bit_length()
    filled = np.full(2**halvings, NO_KEY, dtype=np.int64)
    filled[: len(keys)] = keys
    table = graph.constant(filled, KEYS)
    zero = graph.constant(0)
    place = graph.add("Mul", sought, zero)
    for power in reversed(range(halvings)):
        later = graph.add("Add", place, graph.constant(2**power))
        above = graph.add("Greater", graph.add("Gather", table, later, axis=0), sought)
        place = graph.add("Where", above, place, later)
    known = graph.add("Equal", graph.add("Gather", table, place, axis=0), sought)
    return graph.add("Where", known, place, zero), known
