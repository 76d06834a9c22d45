"""The classifier with the parts of a recipe: what it leaves out, adds, saves and refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from npnlp.backend import Backend, Random, get_backend
from npnlp.backend.operations import LookedUp
from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.gradients import check_adjoint, check_gradients
from npnlp.layers import Packing
from npnlp.layers.ngrams import known_ngrams
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.models.characters import SPECIAL_TOKENS, CharacterEmbedding
from tests.support.packed import batch
from tests.support.reference import BOUNDS, Floats, assert_close, host, packed_order
from tests.support.tables import finished_run, make_run

NUMPY = get_backend("numpy")
MASKS = Random(5, "training")
NAMES = [[2, 5, 6, 3], [2, 7, 3], [2, 4, 4, 6, 8, 1, 3], [3], [2, 5, 6, 3]]
BASE = ClassifierConfig(num_embeddings=9, num_classes=3, embedding_size=4, rnn_hidden_size=4)

CONFIGS: dict[str, dict[str, Any]] = {
    "all": {
        "cell": "gru", "bidirectional": True, "pooling": "max+mean", "hidden_layer": False,
        "ngram_orders": (3, 1, 2), "ngram_size": 3, "ngram_dropout": 0.4, "char_dropout": 0.3,
        "embedding_dropout": 0.3,
    },
    "ngrams": {"ngram_orders": (2,), "ngram_size": 5},
    "char dropout": {"char_dropout": 0.4, "pooling": "mean"},
    "embedding dropout": {"cell": "lstm", "embedding_dropout": 0.5, "forget_bias": 1.0},
    "both dropouts": {"char_dropout": 0.4, "embedding_dropout": 0.5, "pooling": "mean+attention"},
    "layers": {
        "cell": "lstm", "num_layers": 2, "bidirectional": True, "rnn_dropout": 0.3,
        "variational": True, "pooling": "last+max+attention",
    },
    "reset before": {"cell": "gru", "reset": "before", "pooling": "attention+max"},
    "transformer": {
        "cell": "transformer", "num_layers": 2, "num_heads": 2, "rnn_dropout": 0.2,
        "pooling": "mean", "hidden_layer": False, "ngram_orders": (1,), "char_dropout": 0.2,
    },
    "transformer with dropout of features": {
        "cell": "transformer", "embedding_dropout": 0.3, "pooling": "mean+max+last",
    },
}  # fmt: skip
each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))


def tokens_of(names: Sequence[Sequence[int]], backend: Backend) -> tuple[Any, Packing]:
    rows, packing = batch([np.array(name) for name in names], backend)
    return rows.astype(np.int64), packing


def plain(backend: Backend, names: Sequence[Sequence[int]] = NAMES) -> dict[str, Any]:
    tokens, packing = tokens_of(names, backend)
    return {"tokens": tokens, "packing": packing}


def numbered(backend: Backend, names: Sequence[Sequence[int]] = NAMES) -> dict[str, Any]:
    occurring = sorted({token for name in names for token in name})
    tokens, packing = tokens_of([[occurring.index(t) for t in name] for name in names], backend)
    vocabulary = backend.asarray(np.array(occurring))
    return {"tokens": tokens, "packing": packing, "vocabulary": vocabulary}


def config_of(**changes: Any) -> ClassifierConfig:
    """The configuration, with as many n-grams as all names but the last two hold."""
    orders = changes.get("ngram_orders", ())
    if orders:
        changes = {"num_ngrams": len(keys_of(orders)), **changes}
    return replace(BASE, **changes)


def keys_of(orders: Sequence[int]) -> Any:
    return known_ngrams(*tokens_of(NAMES[:3], NUMPY), orders, BASE.num_embeddings)


def model_of(
    changes: dict[str, Any], backend: Backend = NUMPY, dtype: Any = np.float64
) -> SurnameClassifier:
    config = config_of(**changes)
    model = SurnameClassifier(config, backend=backend, dtype=dtype, random=Random(11))
    if model.ngrams is not None:
        model.ngrams.keys = backend.asarray(keys_of(config.ngram_orders))
    return model


@pytest.mark.parametrize("random", [None, MASKS], ids=["evaluation", "training"])
@each_config
def test_gradients_by_complex_step(config: dict[str, Any], random: Random | None) -> None:
    model = model_of(config)
    for kind in (plain, numbered):
        inputs = kind(NUMPY)
        tokens = inputs.pop("tokens")
        if kind is plain:
            report = check_gradients(model, tokens, random=random, **inputs)
            assert report.passed, str(report)
        assert check_adjoint(model, tokens, random=random, **inputs).passed


def pass_of(
    model: SurnameClassifier, inputs: dict[str, Any], random: Random | None
) -> tuple[Floats, dict[str, Floats]]:
    logits, cache = model.forward(**inputs, random=random)
    seed = np.linspace(-1, 1, len(NAMES) * 3).reshape(-1, 3)
    model.zero_grads()
    model.backward(model.backend.asarray(seed, dtype=model.dtype), cache)
    grads = {name: value.copy() for name, value in host(model.backend, model.grads).items()}
    return model.backend.to_numpy(logits).copy(), grads


@pytest.mark.parametrize("random", [None, MASKS], ids=["evaluation", "training"])
@each_config
def test_numbering_only_what_occurs_changes_nothing(
    config: dict[str, Any], random: Random | None, backend: Backend
) -> None:
    model = model_of(config, backend)
    logits, grads = pass_of(model, plain(backend), random)
    others, other_grads = pass_of(model, numbered(backend), random)
    assert_close(others, logits)
    for name, value in grads.items():
        assert_close(other_grads[name], value, floor=1e-3)


@each_config
def test_every_backend_and_dtype_gives_the_same(
    config: dict[str, Any], backend: Backend, dtype: np.dtype[Any]
) -> None:
    expected, wanted = pass_of(model_of(config), numbered(NUMPY), MASKS)
    model = model_of(config, backend, dtype)
    logits, grads = pass_of(model, numbered(backend), MASKS)
    assert logits.dtype == dtype
    assert_close(logits, expected, 10 * BOUNDS[dtype.name])
    for name, value in grads.items():
        assert value.dtype == dtype
        assert_close(value, wanted[name], 50 * BOUNDS[dtype.name], floor=0.1)


@each_config
def test_training_drops_and_evaluation_does_not(config: dict[str, Any]) -> None:
    model, inputs = model_of(config), numbered(NUMPY)
    quiet = [model.forward(**inputs)[0].tolist() for _ in range(2)]
    loud = [model.forward(**inputs, random=MASKS.at(step))[0].tolist() for step in (1, 1, 2)]
    assert quiet[0] == quiet[1]
    assert loud[0] == loud[1]
    assert loud[0] != loud[2]
    assert quiet[0] != loud[0]


@each_config
def test_each_layer_draws_masks_of_its_own(config: dict[str, Any]) -> None:
    """What one draws does not depend on whether another is there."""
    drawn: list[str] = []

    class Watched(Random):
        def child(self, name: str) -> Random:
            below = super().child(name)
            return Watched(below.seed, below.name, below.step)

        def keep(self, shape: tuple[int, ...], p: float) -> Any:
            drawn.append(self.name)
            return super().keep(shape, p)

    model_of(config).forward(**numbered(NUMPY), random=Watched(5, "training"))
    assert len(drawn) == len(set(drawn))
    assert drawn


def embedding_of(backend: Backend = NUMPY, **changes: Any) -> CharacterEmbedding:
    return CharacterEmbedding(
        config_of(**changes), backend=backend, dtype=np.float64, random=Random(2)
    )


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("with_vocabulary", [False, True])
def test_characters_become_unknown_and_nothing_else_does(
    p: float, with_vocabulary: bool, backend: Backend
) -> None:
    names = np.random.default_rng(0).integers(0, 9, size=(400, 12)).tolist()
    embedding = embedding_of(backend, char_dropout=p)
    before = backend.to_numpy(plain(backend, names)["tokens"])
    inputs = (numbered if with_vocabulary else plain)(backend, names)
    inputs.setdefault("vocabulary", None)
    rows, _ = embedding.forward(**inputs, random=MASKS)
    assert isinstance(rows, LookedUp)
    after = backend.to_numpy(rows.tokens)
    assert rows.table.shape == (9, 4)  # the table itself
    characters = before >= SPECIAL_TOKENS
    changed = before != after
    assert not changed[~characters].any()
    assert set(after[changed].tolist()) == {BASE.unk_idx}
    assert abs(changed[characters].mean() - p) < 0.02

    rows, _ = embedding.forward(**inputs)  # in evaluation
    assert isinstance(rows, LookedUp)
    table = backend.to_numpy(embedding.emb.parameters["weight"])
    found = backend.to_numpy(rows.table)[backend.to_numpy(rows.tokens)]
    np.testing.assert_array_equal(found, table[before])


def test_another_number_may_mean_unknown() -> None:
    inputs = plain(NUMPY, [[2, 5, 6, 7, 8, 3]] * 20) | {"vocabulary": None}
    rows, _ = embedding_of(char_dropout=0.5, unk_idx=0).forward(**inputs, random=MASKS)
    assert isinstance(rows, LookedUp)
    assert 0 in rows.tokens
    assert 1 not in rows.tokens


@pytest.mark.parametrize("with_vocabulary", [False, True])
def test_features_are_dropped_for_a_whole_name(with_vocabulary: bool, backend: Backend) -> None:
    p = 0.25
    names = [name * 3 for name in NAMES] * 40
    embedding = embedding_of(backend, embedding_dropout=p)
    embedding.emb.parameters["weight"][...] = 1.0
    inputs = (numbered if with_vocabulary else plain)(backend, names)
    inputs.setdefault("vocabulary", None)
    x, _ = embedding.forward(**inputs, random=MASKS)
    assert not isinstance(x, LookedUp)
    seen: dict[int, list[list[float]]] = {}
    rows = backend.to_numpy(x).tolist()
    for (_, b), row in zip(packed_order([len(n) for n in names]), rows, strict=True):
        seen.setdefault(b, []).append(row)
    assert all(row == of_name[0] for of_name in seen.values() for row in of_name)
    masks = np.array([of_name[0] for of_name in seen.values()])
    assert set(np.unique(masks).round(12)) == {0.0, round(1 / (1 - p), 12)}
    assert abs((masks == 0).mean() - p) < 0.05


def test_the_padding_row_learns_nothing(backend: Backend) -> None:
    names = [[0, 5, 0, 3], [2, 0, 3]]
    for config in ({"embedding_dropout": 0.3}, {"char_dropout": 0.3}, {}):
        model = model_of(config | {"dropout": 0.0, "hidden_layer": False}, backend)
        for kind in (plain, numbered):
            logits, cache = model.forward(**kind(backend, names), random=MASKS)
            model.zero_grads()
            model.backward(logits, cache)
            table = backend.to_numpy(model.grads["emb.weight"])
            assert not table[0].any()
            assert table.any()


@each_config
def test_a_state_comes_back(config: dict[str, Any], backend: Backend) -> None:
    model = model_of(config, backend)
    state = model.state_dict()
    assert ("ngrams.keys" in state) == ("ngram_orders" in config)
    expected = model.forward(**plain(backend))[0]
    other = SurnameClassifier(model.config, backend=backend, dtype=np.float64, random=Random(99))
    other.load_state_dict(state)
    np.testing.assert_array_equal(
        backend.to_numpy(other.forward(**plain(backend))[0]), backend.to_numpy(expected)
    )
    assert other.state_dict().keys() == state.keys()
    for name, value in other.state_dict().items():
        assert value.tobytes() == state[name].tobytes()
    if model.ngrams is not None:
        state["ngrams.keys"][...] = 0
        assert backend.to_numpy(model.ngrams.keys).any(), "what was taken is a copy"


def test_a_copy_in_another_dtype_has_keys_of_its_own() -> None:
    model = model_of(CONFIGS["ngrams"], dtype=np.float32)
    twin = model.astype(np.float64)
    assert model.ngrams is not None
    assert twin.ngrams is not None
    expected = model.forward(**plain(NUMPY))[0]
    assert_close(twin.forward(**plain(NUMPY))[0], expected.astype(float), 1e-5)
    twin.ngrams.keys[...] = 0
    np.testing.assert_array_equal(model.forward(**plain(NUMPY))[0], expected)


def swapped(keys: Any) -> Any:
    keys[[0, 1]] = keys[[1, 0]]
    return keys


@pytest.mark.parametrize(
    "change",
    [swapped, lambda keys: keys * 0 + keys[0], lambda keys: keys.astype(float),
     lambda keys: keys.astype(np.uint64), lambda keys: keys.astype(np.float32)],
    ids=["unsorted", "twice", "float64", "unsigned", "float32"],
)  # fmt: skip
def test_keys_that_are_no_keys_are_refused(change: Any) -> None:
    model = model_of(CONFIGS["ngrams"])
    state = model.state_dict()
    state["ngrams.keys"] = change(state["ngrams.keys"])
    with pytest.raises(InputError, match=r"'ngrams\.keys' has to hold whole numbers in rising"):
        model.load_state_dict(state)


def test_keys_that_are_missing_or_too_many_are_refused() -> None:
    model = model_of(CONFIGS["ngrams"])
    state = model.state_dict()
    keys = state.pop("ngrams.keys")
    with pytest.raises(InputError, match=r"'ngrams\.keys' is missing"):
        model.load_state_dict(state)
    with pytest.raises(InputError, match=r"'ngrams\.keys' has shape"):
        model.load_state_dict({**state, "ngrams.keys": keys[1:]})
    bare = model_of({})
    with pytest.raises(InputError, match=r"'ngrams\.keys' does not belong"):
        bare.load_state_dict({**bare.state_dict(), "ngrams.keys": keys})


BAD_FIELDS: list[tuple[str, Any]] = [
    ("cell", "rnn"), ("cell", None), ("reset", "never"), ("reset", 1), ("nonlinearity", 3),
    ("pooling", "sum"), ("pooling", "max+"), ("pooling", "max+max"), ("pooling", ""),
    ("pooling", None), ("num_layers", 0), ("num_layers", 1.0), ("num_layers", True),
    ("num_heads", 0), ("num_heads", "2"), ("bidirectional", 1), ("bidirectional", None),
    ("variational", "yes"), ("rnn_dropout", 1.0), ("rnn_dropout", -0.1), ("rnn_dropout", "0"),
    ("rnn_dropout", float("nan")), ("rnn_dropout", False), ("forget_bias", float("inf")),
    ("forget_bias", "1"), ("forget_bias", True), ("hidden_layer", 0), ("hidden_layer", None),
    ("embedding_dropout", 1.0), ("embedding_dropout", None), ("char_dropout", 1.5),
    ("char_dropout", float("nan")), ("ngram_dropout", 1.0), ("ngram_dropout", -1),
    ("ngram_orders", 3), ("ngram_orders", "12"), ("ngram_orders", [0]), ("ngram_orders", [9]),
    ("ngram_orders", [1.0]), ("ngram_orders", [True]), ("ngram_orders", None),
    ("ngram_size", 0), ("ngram_size", 2.5), ("num_ngrams", 3), ("num_ngrams", False),
    ("unk_idx", 9), ("unk_idx", -1), ("unk_idx", 1.0), ("dropout", True),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS, ids=str)
def test_a_bad_field_is_named_in_one_line(field: str, value: Any) -> None:
    with pytest.raises(InputError) as refused:
        ClassifierConfig.from_dict(BASE.to_dict() | {field: value})
    assert field in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cell": "transformer", "bidirectional": True}, "leave out bidirectional"),
        ({"cell": "transformer", "num_heads": 3}, "num_heads is 3; it has to divide"),
        ({"ngram_orders": [1], "num_ngrams": 0}, "num_ngrams is 0"),
        ({"num_ngrams": 4}, "num_ngrams is 4, but there are no ngram_orders"),
        ({"ngram_orders": [2], "num_ngrams": 2**24}, "too large"),
        ({"num_layers": 10**9}, "too large"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        ClassifierConfig.from_dict(BASE.to_dict() | changes)


@each_config
def test_a_configuration_comes_back_from_json(config: dict[str, Any]) -> None:
    made = config_of(**config)
    again = ClassifierConfig.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again == made
    assert again.ngram_orders == tuple(config.get("ngram_orders", ()))
    assert hash(again) == hash(made)


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm", "transformer"])
def test_the_number_of_parameters_is_known_before(cell: str) -> None:
    poolings = ("last", "max+mean", "attention", "attention+max+last+mean")
    directions = (False,) if cell == "transformer" else (False, True)
    flags, orders = (False, True), ((), (3, 1))
    for pooling, layers, both, order, hidden_layer in product(
        poolings, (1, 3), directions, orders, flags
    ):
        config = config_of(
            cell=cell, pooling=pooling, num_layers=layers, bidirectional=both,
            ngram_orders=order, hidden_layer=hidden_layer, ngram_size=5, embedding_size=3,
        )  # fmt: skip
        model = SurnameClassifier(config)
        assert config.parameter_count == model.flat.values.size, config
        assert sum(value.size for value in model.grads.values()) == model.flat.values.size, config


def test_a_model_file_from_before_the_new_fields_still_loads(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """Its configuration has the fields of the first version, and no others."""
    path = finished_run(tmp_path_factory) / "model.safetensors"
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    first = ("num_embeddings", "num_classes", "embedding_size", "rnn_hidden_size", "cell",
             "nonlinearity", "dropout", "padding_idx")  # fmt: skip
    found = 0
    for key, value in metadata.items():
        if "num_embeddings" in value:
            contents = json.loads(value)
            config = contents.get("config", contents)
            assert len(config) > len(first)
            for name in set(config) - set(first):
                del config[name]
            metadata[key] = json.dumps(contents)
            found += 1
    assert found == 1
    old = tmp_path / "old.safetensors"
    safetensors.numpy.save_file(tensors, old, metadata)
    one, other = Classifier.load(path), Classifier.load(old)
    assert one.model.config == other.model.config
    names = ["Ramini", "Vamov"]
    assert one.probabilities(names).tolist() == other.probabilities(names).tolist()


def test_a_model_with_all_parts_is_saved_and_loaded(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", shape=dict(CONFIGS["all"]))
    run.classifier.save(tmp_path / "model.safetensors")
    loaded = Classifier.load(tmp_path / "model.safetensors")
    assert loaded.model.config == run.trainer.model.config
    assert loaded.model.ngrams is not None
    assert run.trainer.model.ngrams is not None
    np.testing.assert_array_equal(loaded.model.ngrams.keys, run.trainer.model.ngrams.keys)
    names = ["Ramini", "Vamov", "Q"]
    assert loaded.probabilities(names).tolist() == run.classifier.probabilities(names).tolist()
