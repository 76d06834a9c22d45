"""A classifier as an ONNX file.

    tokens         int64 (batch, time)         tokens of the names, padded with any token
    lengths        int64 (batch,)              the number of tokens of each name, at least 1
    logits         float32 (batch, classes)
    probabilities  float32 (batch, classes)    their softmax

Batch and time may have any size. The metadata entry ``npnlp`` holds configuration and vocabularies,
as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.classifier.classifier import Classifier
from npnlp.exchange.onnx_graph import INTEGERS, Graph
from npnlp.exchange.onnx_ngrams import ngram_bag
from npnlp.exchange.onnx_recurrent import recurrent
from npnlp.exchange.onnx_sequence_lens import recurrent_with_lengths
from npnlp.exchange.onnx_sequences import Sequences
from npnlp.exchange.onnx_transformer import transformer
from npnlp.files import write_atomic
from npnlp.files.tensors import ENTRY, FORMAT_VERSION
from npnlp.models import ClassifierConfig

KIND = "npnlp onnx"
ABOUT = (
    "Surname classifier. tokens (batch, time) are <BEGIN>, the characters and <END> of each "
    "name, padded with the mask; lengths (batch,) count them; logits (batch, classes), and "
    "probabilities, their softmax."
)


def write_onnx(classifier: Classifier, path: str | Path, *, sequence_lens: bool = False) -> None:
    """Write the classifier, atomically; see :func:`onnx_model`."""
    write_atomic(path, onnx_model(classifier, sequence_lens=sequence_lens))


def onnx_model(classifier: Classifier, *, sequence_lens: bool = False) -> bytes:
    """The classifier as the content of an ONNX file, checked by ``onnx.checker``.

    With ``sequence_lens`` a recurrent layer is one operator that is given the lengths: faster in
    onnxruntime, and wrong in other runtimes.
    """
    config = classifier.model.config
    described = {
        "format": KIND,
        "format_version": FORMAT_VERSION,
        "config": config.to_dict(),
        "vectorizer": classifier.vectorizer.to_serializable(),
    }
    graph = Graph()
    state = classifier.model.state_dict()
    z = features_graph(graph, config, state, sequence_lens)
    # Two sums, so that no output is read inside, over which float16 converters stumble.
    logits, again = (graph.linear(z, state["fc2.weight"], state["fc2.bias"], "fc2") for _ in "12")
    probabilities = graph.add("Softmax", again, axis=1)
    shape = ("batch", config.num_classes)
    return graph.model(
        "surname_classifier",
        {"tokens": (INTEGERS, ("batch", "time")), "lengths": (INTEGERS, ("batch",))},
        {"logits": (logits, shape), "probabilities": (probabilities, shape)},
        {ENTRY: json.dumps(described, ensure_ascii=False)},
        ABOUT,
    )


def features_graph(
    graph: Graph,
    config: ClassifierConfig,
    state: Mapping[str, NDArray[Any]],
    sequence_lens: bool,
) -> str:
    """Nodes from ``tokens`` and ``lengths`` to what the last layer reads."""
    sequences = Sequences(graph, "tokens", "lengths")
    table = graph.constant(state["emb.weight"], "emb.weight")
    x = graph.add("Gather", table, sequences.tokens, axis=0)  # (T, B, D)
    encoder = recurrent_with_lengths if sequence_lens else recurrent
    if config.cell == "transformer":
        encoder = transformer
    hidden, last = encoder(graph, x, sequences, config, state)
    seen = [
        last if name == "last" else _pooled(graph, hidden, sequences, name, state)
        for name in config.poolings
    ]
    if config.ngram_orders:
        seen.append(ngram_bag(graph, "tokens", sequences, config, state))
    z = graph.beside(seen, axis=1)
    if config.hidden_layer:
        z = graph.add("Relu", graph.linear(z, state["fc1.weight"], state["fc1.bias"], "fc1"))
    return z


def _pooled(
    graph: Graph,
    hidden: str,
    sequences: Sequences,
    pooling: str,
    state: Mapping[str, NDArray[Any]],
) -> str:
    """Mean, maximum or attention pooling of ``hidden (T, B, F)``: ``(B, F)``."""
    present = graph.add("Unsqueeze", sequences.present, graph.integers(2))  # (T, B, 1)
    if pooling == "max":
        own = graph.add("Where", present, hidden, graph.constant(-np.inf))
        return str(graph.add("ReduceMax", own, axes=[0], keepdims=0))
    nothing = graph.constant(0.0)
    own = graph.add("Where", present, hidden, nothing)
    if pooling == "mean":
        ones = graph.add("Where", present, graph.constant(1.0), nothing)
        count, total = (graph.add("ReduceSum", each, graph.integers(0), keepdims=0)
                        for each in (ones, own))  # fmt: skip
        return str(graph.add("Div", total, count))
    u = graph.add("Tanh", graph.linear(hidden, state["pool.weight"], state["pool.bias"], "pool"))
    context = graph.constant(state["pool.context"][:, None], "pool.context")
    e = graph.add("Where", present, graph.add("MatMul", u, context), graph.constant(-np.inf))
    weighted = graph.add("Mul", graph.add("Softmax", e, axis=0), own)
    return str(graph.add("ReduceSum", weighted, graph.integers(0), keepdims=0))
