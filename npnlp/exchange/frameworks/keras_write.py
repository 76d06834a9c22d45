"""A model as a ``.keras`` file, which ``keras.models.load_model`` reads, or its weights alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from npnlp.errors import InputError
from npnlp.exchange.frameworks.hdf5 import hdf5_of
from npnlp.exchange.frameworks.keras_archive import CONFIG, METADATA, OWN, WEIGHTS, archive_of
from npnlp.exchange.frameworks.keras_config import layers_of
from npnlp.exchange.frameworks.keras_plan import POOLINGS, plan_of
from npnlp.exchange.frameworks.keras_read import NAMES
from npnlp.exchange.frameworks.parts import TRAINS, State, parts_of
from npnlp.files.plain_json import to_json
from npnlp.models import ClassifierConfig

KINDS = {"elman": "SimpleRNN", "gru": "GRU", "lstm": "LSTM"}
#: Of the first Keras of this format; a fixed date, so that the same model is the same bytes.
ABOUT = {"keras_version": "3.0.0", "date_saved": "1980-01-01@00:00:00"}


def keras_file(state: State, config: ClassifierConfig, vectorizer: Any) -> bytes:
    """The content of a ``.keras`` file, with the vocabularies as npnlp.json beside the model.

    Raises :class:`InputError` for a model that Keras's own layers do not make.
    """
    weights, layers = _written(state, config)
    trains = {name: getattr(config, name) for name in TRAINS}
    return archive_of({
        METADATA: to_json(ABOUT).encode(), CONFIG: layers, WEIGHTS: weights,
        OWN: to_json({"trains": trains, "vectorizer": vectorizer}, ascii_only=False).encode(),
    })  # fmt: skip


def keras_weights(state: State, config: ClassifierConfig) -> bytes:
    """The content of a ``.weights.h5`` file, for ``model.load_weights``."""
    return _written(state, config)[0]


def _written(state: State, config: ClassifierConfig) -> tuple[bytes, bytes]:
    """The weights, each at the path that the layers of the configuration have; and these."""
    pooling = config.pooling
    if pooling not in ("last", *POOLINGS.values()) and "attention" not in config.poolings:
        raise InputError(
            f"pooling {pooling}: a Keras model here is a chain of layers, which has one"
        )
    if config.padding_idx:
        raise InputError(f"padding is token {config.padding_idx}; Keras masks token 0")
    parts = parts_of(state, config, "Keras")
    layers = to_json(
        {
            "module": "keras",
            "class_name": "Sequential",
            "registered_name": None,
            "config": {"name": "npnlp", "layers": list(_layers(config))},
        }
    ).encode()
    plan = plan_of(layers_of(layers))
    arrays = {f"{plan.embedding}/vars/0": parts.embedding}
    for paths, directions in zip(plan.cells, parts.layers, strict=True):
        for path, own in zip(paths, directions, strict=True):
            arrays |= {f"{path}/vars/{k}": own[name] for k, name in enumerate(NAMES)}
    for path, (kernel, bias) in zip(plan.linear, parts.linear, strict=True):
        arrays[f"{path}/vars/0"], arrays[f"{path}/vars/1"] = kernel, bias
    return hdf5_of(arrays), layers


def _layers(config: ClassifierConfig) -> Iterator[dict[str, Any]]:
    """The fields that Keras does not know by itself; all others are its defaults."""
    yield _layer("InputLayer", "tokens", batch_shape=[None, None], dtype="int32")
    yield _layer("Embedding", "emb", input_dim=config.num_embeddings,
                 output_dim=config.embedding_size, mask_zero=True)  # fmt: skip
    for number in range(config.num_layers):
        if number and config.rnn_dropout:
            yield _layer("Dropout", f"rnn_dropout_{number}", rate=config.rnn_dropout)
        yield _recurrent(config, number)
    for kind, name in POOLINGS.items():
        if name == config.pooling:
            yield _layer(kind, "pool")
    if config.dropout:
        yield _layer("Dropout", "dropout_1", rate=config.dropout)
    if config.hidden_layer:
        yield _layer("Dense", "fc1", units=config.rnn_hidden_size, activation="relu")
        if config.dropout:
            yield _layer("Dropout", "dropout_2", rate=config.dropout)
    yield _layer("Dense", "fc2", units=config.num_classes, activation="linear")


def _recurrent(config: ClassifierConfig, number: int) -> dict[str, Any]:
    sequences = number + 1 < config.num_layers or config.pooling != "last"
    fields: dict[str, Any] = {"units": config.rnn_hidden_size, "return_sequences": sequences}
    if config.cell == "elman":
        fields["activation"] = config.nonlinearity
    if config.cell == "gru":
        fields["reset_after"] = config.reset == "after"
    kind = KINDS[config.cell]
    if not config.bidirectional:
        return _layer(kind, f"rnn_{number}", **fields)
    one, two = (
        _layer(kind, f"{way}_{number}", **fields, go_backwards=backwards)
        for way, backwards in (("forward", False), ("backward", True))
    )
    return _layer("Bidirectional", f"rnn_{number}", merge_mode="concat", layer=one,
                  backward_layer=two)  # fmt: skip


def _layer(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "registered_name": None,
            "config": {"name": name, **fields}}  # fmt: skip
