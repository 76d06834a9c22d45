"""A classifier as an ONNX file.

    tokens   int64 (batch, time)       tokens of the names, padded with any token
    lengths  int64 (batch,)            the number of tokens of each name, at least 1
    logits   float32 (batch, classes)

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
from npnlp.exchange.onnx_graph import FLOATS, INTEGERS, Graph
from npnlp.exchange.onnx_ngrams import ngram_bag
from npnlp.exchange.onnx_recurrent import recurrent
from npnlp.exchange.onnx_transformer import transformer
from npnlp.files import write_atomic
from npnlp.files.tensors import ENTRY, FORMAT_VERSION
from npnlp.models import ClassifierConfig

KIND = "npnlp onnx"
ABOUT = (
    "Surname classifier. tokens (batch, time) are <BEGIN>, the characters and <END> of each name, "
    "padded with the mask; lengths (batch,) count them; logits (batch, classes)."
)


def write_onnx(classifier: Classifier, path: str | Path) -> None:
    """Write the classifier, atomically."""
    write_atomic(path, onnx_model(classifier))


def onnx_model(classifier: Classifier) -> bytes:
    """The classifier as the content of an ONNX file, checked by ``onnx.checker``."""
    config = classifier.model.config
    described = {
        "format": KIND,
        "format_version": FORMAT_VERSION,
        "config": config.to_dict(),
        "vectorizer": classifier.vectorizer.to_serializable(),
    }
    graph = Graph()
    logits = classifier_graph(graph, config, classifier.model.state_dict())
    return graph.model(
        "surname_classifier",
        {"tokens": (INTEGERS, ("batch", "time")), "lengths": (INTEGERS, ("batch",))},
        (logits, "logits", ("batch", config.num_classes)),
        {ENTRY: json.dumps(described, ensure_ascii=False)},
        ABOUT,
    )


def classifier_graph(
    graph: Graph, config: ClassifierConfig, state: Mapping[str, NDArray[Any]]
) -> str:
    """Nodes from ``tokens`` and ``lengths`` to the logits ``(B, C)``."""
    time_major = graph.add("Transpose", "tokens", perm=[1, 0])
    table = graph.constant(state["emb.weight"], "emb.weight")
    x = graph.add("Gather", table, time_major, axis=0)  # (T, B, D)
    time = graph.add("Squeeze", graph.add("Shape", time_major, start=0, end=1))
    steps = graph.add("Range", graph.constant(0), time, graph.constant(1))  # (T,)
    if config.cell == "transformer":
        hidden, last = transformer(graph, x, steps, "lengths", config, state)
    else:
        hidden, last = recurrent(graph, x, "lengths", config, state)
    seen = [
        last if name == "last" else _pooled(graph, hidden, steps, name, state)
        for name in config.poolings
    ]
    if config.ngram_orders:
        seen.append(ngram_bag(graph, "tokens", steps, "lengths", config, state))
    z = graph.add("Concat", *seen, axis=1) if len(seen) > 1 else seen[0]
    if config.hidden_layer:
        z = graph.add("Relu", graph.linear(z, state["fc1.weight"], state["fc1.bias"], "fc1"))
    return graph.linear(z, state["fc2.weight"], state["fc2.bias"], "fc2")


def _pooled(
    graph: Graph, hidden: str, steps: str, pooling: str, state: Mapping[str, NDArray[Any]]
) -> str:
    """Mean, maximum or attention pooling of ``hidden (T, B, F)``: ``(B, F)``."""
    column = graph.add("Unsqueeze", steps, graph.integers(1))
    present = graph.add("Less", column, "lengths")
    present = graph.add("Unsqueeze", present, graph.integers(2))  # (T, B, 1)
    nothing, lowest = graph.constant(0.0), graph.constant(-np.inf)
    if pooling == "max":
        own = graph.add("Where", present, hidden, lowest)
        return str(graph.add("ReduceMax", own, axes=[0], keepdims=0))
    own = graph.add("Where", present, hidden, nothing)
    if pooling == "mean":
        counts = graph.add("Unsqueeze", graph.add("Cast", "lengths", to=FLOATS), graph.integers(1))
        total = graph.add("ReduceSum", own, graph.integers(0), keepdims=0)
        return str(graph.add("Div", total, counts))
    u = graph.add("Tanh", graph.linear(hidden, state["pool.weight"], state["pool.bias"], "pool"))
    context = graph.constant(state["pool.context"][:, None], "pool.context")
    e = graph.add("Where", present, graph.add("MatMul", u, context), lowest)
    weighted = graph.add("Mul", graph.add("Softmax", e, axis=0), own)
    return str(graph.add("ReduceSum", weighted, graph.integers(0), keepdims=0))
