"""The layers of a Keras model, one after another, from config.json; none of them is made.

A model is a ``Sequential``, or a ``Functional`` whose layers each take what the one before gives.
What could hold code (Lambda layers, classes of the author's own, functions) is refused by its name,
before anything of it is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from npnlp.errors import InputError, short
from npnlp.files.plain_json import parse_json

#: The layers that are understood; each has its own reason to be in a model of texts.
KNOWN = (
    "InputLayer", "Embedding", "SimpleRNN", "GRU", "LSTM", "Bidirectional", "Dropout",
    "SpatialDropout1D", "GlobalAveragePooling1D", "GlobalMaxPooling1D", "Dense", "ReLU", "Softmax",
    "Activation",
)  # fmt: skip
#: What Keras computes a mask with, between the layers of a functional model.
MASK = "NotEqual"
MOST_LAYERS = 1000
#: What a field is that a layer does not state, where it matters.
DEFAULTS = {"go_backwards": False, "return_sequences": False}


@dataclass(frozen=True)
class Layer:
    """A layer: its class, its own name, its fields, and where its weights are in the file."""

    kind: str
    name: str
    fields: Mapping[str, Any]
    path: str

    def refuse(self, why: str) -> InputError:
        """An error that names the layer."""
        return InputError(f"layer {short(self.name)} ({self.kind}): {why}")

    def require(self, **wanted: tuple[Any, ...]) -> None:
        """Raise where a field has none of the ``wanted`` values; the first is Keras's default."""
        for name, values in wanted.items():
            value = self.fields.get(name, DEFAULTS.get(name, values[0]))
            if not any(type(value) is type(each) and value == each for each in values):
                known = " or ".join(str(each) for each in values)
                raise self.refuse(f"{name} is {short(value)}; a model here has {known}")


def layers_of(content: bytes) -> list[Layer]:
    """The layers in order; raises :class:`InputError` naming the one that is not understood."""
    try:
        root = parse_json(content)
    except InputError as error:
        raise InputError(f"config.json: {error}") from error
    model = _table(root, "config.json")
    kind, fields = model.get("class_name"), _table(model.get("config"), "config")
    if kind not in ("Sequential", "Functional"):
        raise InputError(f"a model of class {short(kind)}, not Sequential or Functional: what it "
                         "computes stands in code that is not in the file")  # fmt: skip
    listed = fields.get("layers")
    if not isinstance(listed, list) or not 1 <= len(listed) <= MOST_LAYERS:
        raise InputError("config.json has no list of layers")
    found, used = list[Layer](), dict[str, int]()
    tables: list[Mapping[str, Any]] = [_table(each, "a layer") for each in listed]
    for table in tables:
        kind_of = table.get("class_name")
        if kind_of == MASK and kind == "Functional":
            continue
        layer = _layer(table, used)
        if kind == "Functional" and layer.kind != "InputLayer":
            _require_chain(layer, table, found, tables)
        found.append(layer)
    if kind == "Functional":
        _require_ends(fields, found)
    return found


def snake(name: str) -> str:
    """Keras's path of a class: ``simple_rnn`` of SimpleRNN, ``spatial_dropout1d``, and so on."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def inner(layer: Layer, field: str) -> Layer:
    """The layer that a wrapper holds in ``field``, its path below the wrapper's."""
    found = _layer(_table(layer.fields.get(field), field), {})
    return Layer(found.kind, found.name, found.fields, f"{layer.path}/{field}")


def _layer(table: Mapping[str, Any], used: dict[str, int]) -> Layer:
    """Weights are filed by class: the second LSTM of a model is ``lstm_1``, whatever its name."""
    kind, fields = table.get("class_name"), table.get("config")
    fields = fields if isinstance(fields, dict) else {}
    name = fields.get("name", "")
    if kind not in KNOWN or table.get("module", "keras.layers") != "keras.layers" or (
        table.get("registered_name") is not None
    ):  # fmt: skip
        code = "it holds code, and none is run" if kind == "Lambda" else (
            f"not a layer that is known here: {', '.join(KNOWN)}"
        )  # fmt: skip
        raise InputError(f"layer {short(name)} ({short(kind)}): {code}")
    if type(name) is not str:
        raise InputError(f"a layer ({kind}) has the name {short(name)}")
    base = snake(kind)
    number = used[base] = used.get(base, -1) + 1
    return Layer(kind, name, fields, f"{base}_{number}" if number else base)


def _require_chain(
    layer: Layer, table: Mapping[str, Any], before: list[Layer], tables: list[Mapping[str, Any]]
) -> None:
    """Raise unless the layer is called once, on what the one before gives (and on a mask)."""
    branched = layer.refuse("it is not called on what the layer before it gives, once; only a "
                            "chain of layers is read")  # fmt: skip
    nodes = table.get("inbound_nodes")
    if not before or not isinstance(nodes, list) or len(nodes) != 1:
        raise branched
    node = nodes[0] if isinstance(nodes[0], dict) else {}
    inputs, others = node.get("args"), node.get("kwargs", {})
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(others, dict):
        raise branched
    if _origin(inputs[0]) != before[-1].name:
        raise branched
    masks = {_name(each) for each in tables if each.get("class_name") == MASK}
    for name, value in others.items():
        if isinstance(value, dict | list) and not (name == "mask" and _origin(value) in masks):
            raise layer.refuse(f"{short(name)} is a tensor of its own")


def _require_ends(fields: Mapping[str, Any], found: list[Layer]) -> None:
    last = fields.get("output_layers")
    while isinstance(last, list) and len(last) == 1:
        last = last[0]
    if not isinstance(last, list) or last[:1] != [found[-1].name]:
        raise InputError("the model gives something else than what its last layer gives")


def _origin(tensor: Any) -> Any:
    """The name of the layer whose output a tensor of the configuration is."""
    if isinstance(tensor, dict) and tensor.get("class_name") == "__keras_tensor__":
        fields = tensor.get("config")
        history = fields.get("keras_history") if isinstance(fields, dict) else None
        if isinstance(history, list) and len(history) == 3 and history[1:] == [0, 0]:
            return history[0]
    return None


def _name(table: Mapping[str, Any]) -> Any:
    fields = table.get("config")
    name = fields.get("name") if isinstance(fields, dict) else None
    return name if type(name) is str else None


def _table(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{what} is {short(value)}, not a table of fields")
    return value
