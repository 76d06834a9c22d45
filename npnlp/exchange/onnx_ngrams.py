"""The bag of n-grams in ONNX's operators; see npnlp/layers/ngrams.py.

ONNX has no search in a sorted list, so it is unrolled: with the list of keys padded to 2^k by a
number that no n-gram has, k halvings find the last key that is not above the given key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.exchange.onnx_graph import Graph
from npnlp.exchange.onnx_sequences import Sequences
from npnlp.models import ClassifierConfig
from npnlp.models.surname_classifier import KEYS

NO_KEY = np.iinfo(np.int64).max


def ngram_bag(
    graph: Graph,
    tokens: str,
    sequences: Sequences,
    config: ClassifierConfig,
    state: Mapping[str, NDArray[Any]],
) -> str:
    """``(B, F)`` of padded ``tokens (B, T)``."""
    own = key = graph.add("Add", tokens, graph.constant(1))
    present = graph.add("Transpose", sequences.present, perm=[1, 0])
    keys, there = [], []
    for n in range(1, max(config.ngram_orders) + 1):
        if n > 1:  # the key of the step before, times V + 1, and this token
            longer = graph.add("Pad", key, graph.integers(0, 1, 0, 0))
            before = graph.add("Slice", longer, *(graph.integers(k) for k in (0, -1, 1)))
            before = graph.add("Mul", before, graph.constant(config.num_embeddings + 1))
            key = graph.add("Add", before, own)
        if n in config.ngram_orders:
            keys.append(key)
            begun = graph.add("GreaterOrEqual", sequences.steps, graph.constant(n - 1))
            there.append(graph.add("And", present, begun))
    sought = graph.add("Concat", *keys, axis=1)  # (B, M)
    rows, known = _search(graph, sought, state[KEYS])
    known = graph.add("And", known, graph.add("Concat", *there, axis=1))
    known = graph.add("Where", known, graph.constant(1.0), graph.constant(0.0))
    weight = graph.constant(state["ngrams.weight"], "ngrams.weight")
    chosen = graph.add("Gather", weight, rows, axis=0)  # (B, M, F)
    chosen = graph.add("Mul", chosen, graph.add("Unsqueeze", known, graph.integers(2)))
    total = graph.add("ReduceSum", chosen, graph.integers(1), keepdims=0)
    count = graph.add("ReduceSum", known, graph.integers(1), keepdims=1)
    count = graph.add("Clip", count, graph.constant(1.0))
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
        above = graph.add("Greater", _beyond(graph, table, later, sought), zero)
        place = graph.add("Where", above, place, later)
    known = graph.add("Equal", _beyond(graph, table, place, sought), zero)
    return graph.add("Where", known, place, zero), known


def _beyond(graph: Graph, table: str, place: str, sought: str) -> str:
    """How far a key of the table is above that which is sought.

    Runtimes that compare integers as float32 tell 0 from 1, and not one large key from the next.
    """
    return str(graph.add("Sub", graph.add("Gather", table, place, axis=0), sought))
