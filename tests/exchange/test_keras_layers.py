"""The layers and the archive of a Keras model, without Keras and without weights."""

from __future__ import annotations

import json
import zipfile
from copy import deepcopy
from io import BytesIO
from typing import Any

import pytest

from npnlp.errors import InputError
from npnlp.exchange.frameworks.keras_archive import CONFIG, WEIGHTS, read_archive
from npnlp.exchange.frameworks.keras_config import layers_of
from npnlp.exchange.frameworks.keras_plan import plan_of


def keras_config(*layers: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    made_layers = [
        {"module": "keras.layers", "class_name": kind, "registered_name": None,
         "config": {"name": f"{kind.lower()}_{k}", **fields}}
        for k, (kind, fields) in enumerate(layers)
    ]  # fmt: skip
    return {"module": "keras", "class_name": "Sequential", "config": {"layers": made_layers}}


EMB: tuple[str, dict[str, Any]] = ("Embedding", {"mask_zero": True})
GRU: tuple[str, dict[str, Any]] = ("GRU", {"return_sequences": False})
OUT: tuple[str, dict[str, Any]] = ("Dense", {"activation": "softmax"})
MORE = {"return_sequences": True}
PLAIN = keras_config(EMB, GRU, OUT)


def both(kind: str, one: dict[str, Any], two: dict[str, Any], **fields: Any) -> Any:
    inside = {"module": "keras.layers", "class_name": kind}
    return ("Bidirectional", {"merge_mode": "concat", "layer": {**inside, "config": one},
                              "backward_layer": {**inside, "config": two}, **fields})  # fmt: skip


BACK = {"go_backwards": True}
REFUSED: dict[str, tuple[Any, str]] = {
    "no embedding": (keras_config(GRU, OUT), "the first layer is no Embedding"),
    "no cell": (keras_config(EMB, OUT), "after the Embedding comes Dense"),
    "a lambda": (keras_config(EMB, ("Lambda", {"function": {"code": "4wEA"}}), GRU, OUT),
                 r"layer 'lambda_1' \('Lambda'\): it holds code, and none is run"),
    "an own class": (keras_config(EMB, ("Mine", {}), GRU, OUT), "not a layer that is known here"),
    "convolution": (keras_config(EMB, ("Conv1D", {}), GRU, OUT), r"\('Conv1D'\)"),
    "an activation": (keras_config(EMB, ("LSTM", {"activation": "relu"}), OUT),
                      "activation is 'relu'; a model here has tanh"),
    "a function": (keras_config(EMB, ("LSTM", {"activation": {"class_name": "__lambda__"}}), OUT),
                   "activation is {"),
    "hard gates": (keras_config(EMB, ("GRU", {"recurrent_activation": "hard_sigmoid"}), OUT),
                   "recurrent_activation is 'hard_sigmoid'"),
    "stateful": (keras_config(EMB, ("GRU", {"stateful": True}), OUT), "stateful is True"),
    "backwards": (keras_config(EMB, ("GRU", BACK), OUT), "go_backwards is True"),
    "states": (keras_config(EMB, ("GRU", {"return_state": True}), OUT), "return_state is True"),
    "sums": (keras_config(EMB, both("GRU", {}, BACK, merge_mode="sum"), OUT), "merge_mode is"),
    "twice forward": (keras_config(EMB, both("GRU", {}, {}), OUT), "go_backwards is False"),
    "one way last": (keras_config(EMB, both("GRU", MORE, BACK), OUT), "one direction returns"),
    "inside of both": (keras_config(EMB, both("Dense", {}, {}), OUT), "not SimpleRNN, GRU or LSTM"),
    "mixed": (keras_config(EMB, ("GRU", MORE), ("LSTM", {}), OUT), "of several kinds"),
    "mixed resets": (keras_config(EMB, ("GRU", MORE), ("GRU", {"reset_after": False}), OUT),
                     "of several kinds"),
    "no pooling": (keras_config(EMB, ("GRU", MORE), OUT), "no pooling over time follows"),
    "pooled twice": (keras_config(EMB, GRU, ("GlobalMaxPooling1D", {}), OUT), "last state only"),
    "three dense": (keras_config(EMB, GRU, *[("Dense", {"activation": "relu"})] * 2, OUT),
                    "3 Dense layers"),
    "tanh between": (keras_config(EMB, GRU, ("Dense", {"activation": "tanh"}), OUT),
                     "activation is 'tanh'"),
    "sigmoid": (keras_config(EMB, GRU, ("Dense", {"activation": "sigmoid"})), "is 'sigmoid'"),
    "relu last": (keras_config(EMB, GRU, ("Dense", {"activation": "relu"})), "activation relu"),
    "linear between": (keras_config(EMB, GRU, ("Dense", {}), OUT), "activation linear"),
    "a subclass": (PLAIN | {"class_name": "MyModel"}, "what it computes stands in code"),
    "no layers": (PLAIN | {"config": {}}, "no list of layers"),
    "registered": (PLAIN | {"config": {"layers": [
        PLAIN["config"]["layers"][0] | {"registered_name": "mine>Embedding"}
    ]}}, "not a layer that is known here"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_layers_that_are_not_a_model_here_are_refused(case: str) -> None:
    config, words = REFUSED[case]
    with pytest.raises(InputError, match=words) as caught:
        plan_of(layers_of(json.dumps(config).encode()))
    assert str(caught.value).isprintable()


def test_layers_are_filed_by_class() -> None:
    config = keras_config(EMB, ("Dropout", {"rate": 0.1}), ("GRU", MORE), ("GRU", MORE), GRU,
                          ("Dropout", {"rate": 0.3}), ("Dense", {}), ("ReLU", {}), OUT)  # fmt: skip
    plan = plan_of(layers_of(json.dumps(config).encode()))
    assert plan.cells == [["gru/cell"], ["gru_1/cell"], ["gru_2/cell"]]
    assert (plan.linear, plan.trains) == (["dense", "dense_1"], {"dropout": 0.3})
    assert plan.says == {"reset": "after", "pooling": "last"}


def functional() -> dict[str, Any]:
    """What Keras writes of a chain of calls, with the mask that it computes."""

    def tensor(name: str) -> dict[str, Any]:
        return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}}

    config = keras_config(("InputLayer", {}), EMB, GRU, OUT)
    layers = config["config"]["layers"]
    names = [layer["config"]["name"] for layer in layers]
    for layer, before in zip(layers[1:], names, strict=False):
        layer["inbound_nodes"] = [{"args": [tensor(before)], "kwargs": {"mask": None}}]
    layers.insert(2, {"module": "keras.src.ops.numpy", "class_name": "NotEqual",
                      "config": {"name": "not_equal"}, "registered_name": "NotEqual",
                      "inbound_nodes": [{"args": [tensor(names[0]), 0]}]})  # fmt: skip
    layers[3]["inbound_nodes"][0]["kwargs"] = {"mask": tensor("not_equal")}
    config["config"] |= {"output_layers": [[names[-1], 0, 0]]}
    return config | {"class_name": "Functional"}


def test_a_functional_model_has_to_be_a_chain() -> None:
    whole = functional()
    assert plan_of(layers_of(json.dumps(whole).encode())).cells == [["gru/cell"]]
    other = deepcopy(whole)
    nodes = other["config"]["layers"][4]["inbound_nodes"]
    for damage in (nodes * 2, [], [{"args": [nodes[0]["args"][0]] * 2}],
                   whole["config"]["layers"][1]["inbound_nodes"]):  # fmt: skip
        other["config"]["layers"][4]["inbound_nodes"] = damage
        with pytest.raises(InputError, match="only a chain of layers is read"):
            layers_of(json.dumps(other).encode())
    other = deepcopy(whole)
    node = other["config"]["layers"][3]["inbound_nodes"][0]
    node["kwargs"] = {"initial_state": node["args"][0]}
    with pytest.raises(InputError, match="'initial_state' is a tensor of its own"):
        layers_of(json.dumps(other).encode())
    whole["config"]["output_layers"] = [["gru_2", 0, 0], ["dense_3", 0, 0]]
    with pytest.raises(InputError, match="gives something else"):
        layers_of(json.dumps(whole).encode())


# --- archives


def archive(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    target = BytesIO()
    with zipfile.ZipFile(target, "w", compression) as file:
        for name, content in members:
            file.writestr(zipfile.ZipInfo(name), content, compression)
    return target.getvalue()


WHOLE = [(CONFIG, b"{}"), (WEIGHTS, b"h5"), ("assets/a.txt", b"x")]
BOMB = b"\0" * 10_000_000
HOSTILE_ARCHIVES: dict[str, tuple[bytes, str]] = {
    "out of it": (archive([*WHOLE, ("../../outside", b"x")]), "leads out of the archive"),
    "absolute": (archive([*WHOLE, ("/etc/passwd", b"x")]), "leads out of the archive"),
    "a drive": (archive([*WHOLE, ("C:\\x", b"x")]), "leads out of the archive"),
    "backslashes": (archive([*WHOLE, ("a\\..\\..\\x", b"x")]), "leads out of the archive"),
    "a bomb": (archive([(CONFIG, b"{}"), (WEIGHTS, BOMB)], zipfile.ZIP_DEFLATED), "the limit is"),
    "a bomb of text": (archive([(CONFIG, BOMB), WHOLE[1]], zipfile.ZIP_DEFLATED), "the limit is"),
    "another method": (archive(WHOLE, zipfile.ZIP_LZMA), "compressed in a way"),
    "no weights": (archive(WHOLE[:1]), "no model.weights.h5"),
    "cut": (archive(WHOLE)[:-30], "not a readable .keras archive"),
    "members": (archive([(str(k), b"") for k in range(10_001)]), "10,001 members"),
}


@pytest.mark.parametrize("case", HOSTILE_ARCHIVES)
def test_archives_that_trick_are_refused(case: str) -> None:
    content, words = HOSTILE_ARCHIVES[case]
    with pytest.raises(InputError, match=words):
        read_archive(content)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice_or_encrypted_is_refused() -> None:
    with pytest.raises(InputError, match=r"'config.json' is in the archive twice"):
        read_archive(archive([*WHOLE, (CONFIG, b"{}")]))
    content = bytearray(archive(WHOLE))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1
    with pytest.raises(InputError, match=r"config.json is encrypted"):
        read_archive(bytes(content))
    assert read_archive(archive(WHOLE)) == dict(WHOLE[:2])
