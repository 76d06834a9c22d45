"""What is misused: a layer with arguments that fit it, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Random
from npnlp.backend.operations import LookedUp
from npnlp.layers import (
    GRU,
    LSTM,
    POOLINGS,
    Dropout,
    Elman,
    Embedding,
    GRUResetBefore,
    LayerNorm,
    Linear,
    MeanSquaredError,
    MultiHeadAttention,
    RecurrentStack,
    ReLU,
    SoftmaxCrossEntropy,
    TransformerEncoder,
    VariationalDropout,
)
from npnlp.layers.ngrams import NgramBag
from npnlp.layers.recurrent.segments import Segmented
from npnlp.layers.soft_loss import Consistency, SoftCrossEntropy
from npnlp.models import ClassifierConfig, Encoder, EncoderConfig, SequenceConfig, SurnameClassifier
from npnlp.models.characters import CharacterEmbedding
from npnlp.models.sequence_model import SequenceModel

COLUMNS = ("a column too many", "a column less", "one column", "no columns")
Draw = np.random.Generator
#: The values of an argument: real numbers, or whole numbers below a size.
Values = NDArray[Any]


@dataclass
class Subject:
    """``call(layer, values, packing)`` is the forward pass; ``values`` by name.

    ``below`` are the sizes that whole numbers have to stay below; ``exact`` says whether the layer
    takes real numbers of its own type only. ``free`` arguments may have any number of rows.
    """

    layer: Callable[[dict[str, Any]], Any]
    call: Callable[[Any, dict[str, Any], Any], Any]
    values: dict[str, Values]
    below: dict[str, int] = field(default_factory=dict)
    lengths: Values | None = None
    exact: bool = True
    free: frozenset[str] = frozenset()
    #: What is right of arguments of this subject all the same: names of mutations.
    also_right: frozenset[str] = frozenset()
    #: Arguments of which every shape is right.
    any_shape: frozenset[str] = frozenset()


def packed(draw: Draw) -> tuple[Values, int, int]:
    lengths = draw.integers(1, 6, draw.integers(1, 6))
    return lengths, len(lengths), int(lengths.sum())


def whole(draw: Draw, below: int, *shape: int) -> Values:
    return draw.integers(0, below, shape)


def linear(draw: Draw) -> Subject:
    n, d, h = draw.integers(1, 7, 3).tolist()
    return Subject(
        lambda options: Linear(d, h, **options),
        lambda layer, v, _: layer.forward(v["x"]),
        {"x": draw.normal(size=(n, d))},
        free=frozenset({"x"}),
    )


def embedding(draw: Draw) -> Subject:
    n, v, d = draw.integers(1, 7, 3).tolist()
    return Subject(
        lambda options: Embedding(v, d, **options),
        lambda layer, values, _: layer.forward(values["tokens"]),
        {"tokens": whole(draw, v, n)},
        {"tokens": v},
        free=frozenset({"tokens"}),
    )


def elementwise(draw: Draw) -> Subject:
    n, d = draw.integers(1, 7, 2).tolist()
    x = {"x": draw.normal(size=(n, d))}
    made: Callable[[dict[str, Any]], Any]
    if draw.random() < 0.5:
        made, call = lambda options: ReLU(**options), lambda layer, v, _: layer.forward(v["x"])
    else:
        made = lambda options: Dropout(0.4, **options)  # noqa: E731
        call = lambda layer, v, _: layer.forward(v["x"], Random(3))  # noqa: E731
    return Subject(made, call, x, exact=False, any_shape=frozenset({"x"}))


def layer_norm(draw: Draw) -> Subject:
    n, d = draw.integers(1, 7), int(draw.integers(2, 7))
    return Subject(
        lambda options: LayerNorm(d, **options),
        lambda layer, v, _: layer.forward(v["x"]),
        {"x": draw.normal(size=(n, d))},
        free=frozenset({"x"}),
        also_right=frozenset({"x is one more axis", "x is flat"}),
    )


def variational(draw: Draw) -> Subject:
    lengths, _, n = packed(draw)
    return Subject(
        lambda options: VariationalDropout(0.4, **options),
        lambda layer, v, packing: layer.forward(v["x"], Random(3), packing=packing),
        {"x": draw.normal(size=(n, 3))},
        lengths=lengths,
        exact=False,
        also_right=frozenset(f"x is {columns}" for columns in COLUMNS),
    )


def pooling(draw: Draw) -> Subject:
    (lengths, batch, n), d = packed(draw), int(draw.integers(1, 6))
    name = str(draw.choice(list(POOLINGS)))
    used = (
        {"h_last": draw.normal(size=(batch, d))}
        if name == "last"
        else {"hidden": draw.normal(size=(n, d))}
    )
    return Subject(
        lambda options: POOLINGS[name](d, **options),
        lambda layer, v, packing: layer.forward(v.get("hidden"), v.get("h_last"), packing=packing),
        used,
        lengths=lengths,
        exact=name == "attention",
        free=frozenset({"dy"} if name == "last" else ()),
        also_right=frozenset({"packing is longer", "cache is None"} if name == "last" else ()),
    )


def attention(draw: Draw) -> Subject:
    lengths, _, n = packed(draw)
    return Subject(
        lambda options: MultiHeadAttention(4, 2, **options),
        lambda layer, v, packing: layer.forward(v["x"], packing=packing),
        {"x": draw.normal(size=(n, 4))},
        lengths=lengths,
    )


def rows(draw: Draw, n: int, d: int) -> tuple[dict[str, Values], dict[str, int], frozenset[str]]:
    """Packed rows, or a table of them with tokens."""
    if draw.random() < 0.5:
        return {"x": draw.normal(size=(n, d))}, {}, frozenset()
    v = int(draw.integers(1, 6))
    values = {"table": draw.normal(size=(v, d)), "tokens": whole(draw, v, n)}
    return values, {"tokens": v}, frozenset({"table"})


def given_rows(v: dict[str, Any]) -> Any:
    return LookedUp(v["table"], v["tokens"]) if "table" in v else v["x"]


def transformer(draw: Draw) -> Subject:
    (lengths, _, n), d = packed(draw), int(draw.integers(1, 5))
    values, below, free = rows(draw, n, d)
    made = lambda o: TransformerEncoder(d, 4, num_heads=2, feedforward_size=5, max_positions=3, **o)  # noqa: E731
    return Subject(
        made,
        lambda layer, v, packing: layer.forward(given_rows(v), packing=packing),
        values,
        below,
        lengths,
        free=free,
    )


CELLS: list[tuple[Callable[..., Any], dict[str, Any], int]] = [
    (Elman, {}, 1),
    (Elman, {"nonlinearity": "relu"}, 1),
    (GRU, {}, 1),
    (GRUResetBefore, {}, 1),
    (LSTM, {}, 2),
]


def recurrent(draw: Draw) -> Subject:
    (lengths, batch, n), (d, h) = packed(draw), draw.integers(1, 7, 2).tolist()
    cell, own, states = CELLS[draw.integers(len(CELLS))]
    values, below, free = rows(draw, n, d)
    if draw.random() < 0.5:
        values |= {f"state{k}": draw.normal(size=(batch, h)) for k in range(states)}

    def call(layer: Any, v: dict[str, Any], packing: Any) -> Any:
        initial = [v[name] for name in v if name.startswith("state")]
        return layer.forward(given_rows(v), *initial, packing=packing)

    segmented = draw.random() < 0.15
    made = lambda o: Segmented(cell(d, h, **own, **o), 2) if segmented else cell(d, h, **own, **o)  # noqa: E731
    return Subject(
        made,
        call,
        values,
        below,
        lengths,
        free=free,
        also_right=frozenset({"dy is None"} if segmented else ()),
    )


def stack(draw: Draw) -> Subject:
    (lengths, batch, n), (d, h) = packed(draw), draw.integers(1, 6, 2).tolist()
    name, layers, both = (
        str(draw.choice(["elman", "gru", "lstm"])),
        int(draw.integers(1, 3)),
        draw.random() < 0.5,
    )
    values, below, free = rows(draw, n, d)
    if draw.random() < 0.5:
        shape = layers * (1 + both), batch, h
        values |= {f"state{k}": draw.normal(size=shape) for k in range(1 + (name == "lstm"))}

    def call(layer: Any, v: dict[str, Any], packing: Any) -> Any:
        initial = [v[key] for key in v if key.startswith("state")]
        return layer.forward(given_rows(v), *initial, packing=packing)

    made = lambda o: RecurrentStack(name, d, h, num_layers=layers, bidirectional=both, **o)  # noqa: E731
    return Subject(made, call, values, below, lengths, free=free)


def ngrams(draw: Draw) -> Subject:
    (lengths, _, n), v = packed(draw), int(draw.integers(1, 6))
    return Subject(
        lambda o: NgramBag(7, 3, orders=(1, 2), num_tokens=v, **o),
        lambda layer, values, packing: layer.forward(values["tokens"], packing=packing),
        {"tokens": whole(draw, v, n)},
        {"tokens": v},
        lengths,
    )


def cross_entropy(draw: Draw) -> Subject:
    n, c = draw.integers(1, 7, 2).tolist()
    weights = draw.uniform(0.5, 2, c) if draw.random() < 0.5 else None

    def made(options: dict[str, Any]) -> Any:
        of_classes = None if weights is None else options["backend"].asarray(weights)
        return SoftmaxCrossEntropy(of_classes, **options)

    return Subject(
        made,
        lambda layer, v, _: layer.forward(v["logits"], v["targets"]),
        {"logits": draw.normal(size=(n, c)), "targets": whole(draw, c, n)},
        {"targets": c},
        exact=False,
        also_right=frozenset(f"logits is {columns}" for columns in COLUMNS[:3]),
    )


def other_losses(draw: Draw) -> Subject:
    n, c = draw.integers(1, 7), int(draw.integers(1, 6))
    z, v, weights = draw.normal(size=(n, c)), draw.normal(size=(n, c)), draw.uniform(0.5, 2, n)
    kind = draw.integers(3)
    if kind == 0:
        return Subject(
            lambda o: MeanSquaredError(**o),
            lambda layer, a, _: layer.forward(a["y"], a["targets"]),
            {"y": z, "targets": v},
            exact=False,
        )
    shares = np.exp(v) / np.exp(v).sum(axis=1)[:, None]
    made = SoftCrossEntropy if kind == 1 else Consistency
    return Subject(
        lambda o: made(**o),
        lambda layer, a, _: layer.forward(a["z"], a["v"], a["weights"]),
        {"z": z, "v": shares if kind == 1 else v, "weights": weights},
        exact=False,
    )


def config_of(draw: Draw) -> ClassifierConfig:
    return ClassifierConfig(
        int(draw.integers(2, 7)),
        int(draw.integers(1, 5)),
        embedding_size=int(draw.integers(1, 5)),
        rnn_hidden_size=4,
        cell=str(draw.choice(["elman", "gru", "lstm", "transformer"])),
        num_heads=2,
        hidden_layer=bool(draw.random() < 0.7),
        pooling=str(draw.choice(["last", "last+mean", "max"])),
    )


def of_tokens(draw: Draw, v: int, n: int) -> tuple[dict[str, Values], dict[str, int]]:
    if draw.random() < 0.5:
        return {"tokens": whole(draw, v, n)}, {"tokens": v}
    used = np.sort(draw.permutation(v)[: draw.integers(1, v + 1)])
    values = {"tokens": whole(draw, len(used), n), "vocabulary": used}
    return values, {"tokens": len(used), "vocabulary": v}


def reads_tokens(
    draw: Draw, made: Callable[..., Any], outputs: Callable[[Any], Any] = lambda y: y
) -> Subject:
    """A layer of a configuration that takes tokens, and perhaps their vocabulary."""
    (lengths, _, n), config = packed(draw), config_of(draw)
    values, below = of_tokens(draw, config.num_embeddings, n)

    def call(layer: Any, v: dict[str, Any], packing: Any) -> Any:
        y, cache = layer.forward(v["tokens"], vocabulary=v.get("vocabulary"), packing=packing)
        return outputs(y), cache

    return Subject(
        lambda o: made(config, **o),
        call,
        values,
        below,
        lengths,
        free=frozenset({"vocabulary"}),
        also_right=frozenset({"vocabulary is None"}),
    )


def characters(draw: Draw) -> Subject:
    return reads_tokens(draw, CharacterEmbedding, lambda x: x.table)


def encoder(draw: Draw) -> Subject:
    (lengths, _, n), d = packed(draw), int(draw.integers(1, 5))
    values, below, free = rows(draw, n, d)
    cell, pool = (
        str(draw.choice(["elman", "gru", "transformer"])),
        str(draw.choice(["last", "mean", "max+last"])),
    )
    config = EncoderConfig(cell=cell, num_heads=2, pooling=pool)
    return Subject(
        lambda o: Encoder(config, d, 4, **o),
        lambda layer, v, packing: layer.forward(given_rows(v), packing=packing),
        values,
        below,
        lengths,
        free=free,
    )


def classifier(draw: Draw) -> Subject:
    return reads_tokens(draw, SurnameClassifier)


def sequence_model(draw: Draw) -> Subject:
    lengths, _, n = packed(draw)
    config = SequenceConfig(3, 2, 4, read=str(draw.choice(["last", "each"])), cell="gru")
    return Subject(
        lambda o: SequenceModel(config, **o),
        lambda layer, v, packing: layer.forward(v["x"], packing=packing),
        {"x": draw.normal(size=(n, 3))},
        lengths=lengths,
    )


#: More of what compiled code runs.
SUBJECTS: list[Callable[[Draw], Subject]] = [
    linear,
    embedding,
    elementwise,
    layer_norm,
    variational,
    pooling,
    attention,
    transformer,
    recurrent,
    recurrent,
    recurrent,
    stack,
    ngrams,
    cross_entropy,
    cross_entropy,
    other_losses,
    characters,
    encoder,
    classifier,
    sequence_model,
]
