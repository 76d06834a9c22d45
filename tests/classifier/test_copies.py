"""A copy of a model is a model: it predicts the same bits, and it learns the same bits."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from npnlp.backend import Backend, Random, get_backend
from npnlp.backend.operations import LookedUp
from npnlp.classifier.building import make_classifier
from npnlp.classifier.classifier import Classifier
from npnlp.errors import DeviceError
from npnlp.estimator.estimator import SurnameClassifierEstimator
from npnlp.layers import FlatParameters, Layer, Linear, Packing
from npnlp.layers.attention.attention import MultiHeadAttention
from npnlp.layers.attention.transformer import TransformerEncoder
from npnlp.layers.composite import Composite
from npnlp.layers.recurrent.cells import CELLS
from npnlp.layers.recurrent.stack import RecurrentStack
from npnlp.models.sequence_model import SequenceConfig, SequenceModel
from npnlp.text import SurnameDataset, SurnameVectorizer
from npnlp.training.config import TrainingConfig
from npnlp.training.optimizers import Adam
from npnlp.training.recipes import RECIPES
from npnlp.training.trainer import Trainer
from tests.support.tables import frame_of, small_rows

Copy = Callable[[Any], Any]
COPIES: dict[str, Copy] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
}
#: Models, and settings of their training.
MODELS: dict[str, dict[str, Any]] = {
    "elman": {},
    "elman relu": {"nonlinearity": "relu", "pooling": "mean"},
    "gru": {"cell": "gru", "pooling": "max"},
    "gru reset before": {"cell": "gru", "reset": "before"},
    "lstm": {"cell": "lstm", "forget_bias": 1.0, "pooling": "attention"},
    "bidirectional": {"bidirectional": True, "pooling": "last+mean+max"},
    "stacked": {"cell": "lstm", "num_layers": 2, "rnn_dropout": 0.2, "variational": True},
    "transformer": {"cell": "transformer", "num_heads": 2, "rnn_dropout": 0.1},
    "n-grams": {"ngram_orders": (1, 2), "ngram_size": 4, "hidden_layer": False},
    "wide": RECIPES["wide"] | {"rnn_hidden_size": 8, "embedding_size": 6, "ngram_size": 4},
    "momentum": {"optimizer": "sgd", "momentum": 0.9},
}  # fmt: skip
BACKENDS = ["numpy", pytest.param("numba", marks=pytest.mark.peers)]
NAMES = ["Rammoto", "Vilenko", "Corini", "Ödön", "Nabel"]


@cache
def dataset() -> SurnameDataset:
    frame = frame_of(small_rows())
    return SurnameDataset(frame, SurnameVectorizer.from_dataframe(frame))


def untrained(kind: str, backend: str) -> Classifier:
    sizes = {"embedding_size": 6, "rnn_hidden_size": 8}
    names = {field for field in MODELS[kind] if field in TRAINING}
    settings = {key: value for key, value in MODELS[kind].items() if key not in names}
    try:
        held = get_backend(backend)
    except DeviceError as error:
        pytest.skip(str(error))
    model = make_classifier(dataset(), sizes | settings, held, seed=3)
    return Classifier(model, dataset().get_vectorizer())


TRAINING = set(TrainingConfig.__dataclass_fields__)


def trainer(kind: str, model: Any) -> Trainer:
    chosen = {key: value for key, value in MODELS[kind].items() if key in TRAINING}
    config = TrainingConfig(**chosen | {"num_epochs": 4, "batch_size": 16, "learning_rate": 0.02})
    return Trainer(model, dataset().arrays("train"), dataset().arrays("val"), config)


class Learned(NamedTuple):
    before: NDArray[Any]
    losses: list[float]
    after: NDArray[Any]
    weights: NDArray[Any]


def learned(kind: str, classifier: Classifier) -> Learned:
    """What it says, the losses of two epochs of training, and what it says then."""
    before = classifier.probabilities(NAMES)
    epochs = trainer(kind, classifier.model)
    losses = [epochs.run_epoch()["train_loss"] for _ in range(2)]
    after = classifier.probabilities(NAMES)
    return Learned(before, losses, after, classifier.model.flat.values.copy())


def assert_same(found: Learned, expected: Learned) -> None:
    assert found.losses == expected.losses
    assert found.losses[1] != found.losses[0]
    assert np.array_equal(found.before, expected.before)
    assert np.array_equal(found.after, expected.after)
    assert np.array_equal(found.weights, expected.weights)


def assert_views(model: Any) -> None:
    """Each parameter of each layer, at any depth, is a view of the model's flat buffer."""
    flat = model.flat
    assert model.parameters is flat.parameters
    assert model.grads is flat.views_of_grads
    layers = [part for part in vars(model).values() if isinstance(part, Layer)]
    while layers:
        layer = layers.pop()
        layers += [part for _, part in getattr(layer, "sublayers", [])]
        assert layer.backend is model.backend
        for held, buffer in ((layer.parameters, flat.values), (layer.grads, flat.grads)):
            assert all(np.shares_memory(array, buffer) for array in held.values())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", MODELS)
def test_a_copy_predicts_and_learns_the_same_bits(kind: str, backend: str) -> None:
    original = untrained(kind, backend)
    twins = [duplicate(original) for duplicate in COPIES.values()]
    expected = learned(kind, original)
    for twin in twins:
        assert_views(twin.model)
        assert not np.shares_memory(twin.model.flat.values, original.model.flat.values)
        assert twin.model.flat.values.ctypes.data % 64 == 0
        assert_same(learned(kind, twin), expected)


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("kind", ["stacked", "wide", "momentum"])
def test_a_trainer_goes_on_where_it_was_copied(kind: str, duplicate: Copy) -> None:
    original = trainer(kind, untrained(kind, "numpy").model)
    original.run_epoch()
    twin = duplicate(original)
    for one in (original, twin):
        one.run_epoch()
    assert twin.optimizer.flat is twin.model.flat
    assert np.array_equal(twin.model.flat.values, original.model.flat.values)
    for name, moment in original.optimizer.moments.items():
        assert np.array_equal(twin.optimizer.moments[name], moment)


def test_a_shallow_copy_shares_all_weights() -> None:
    original = untrained("gru", "numpy")
    twin = copy.copy(original.model)
    copy.copy(original.model.flat)
    assert twin.flat is original.model.flat
    assert_views(original.model)
    original.model.flat.values[...] = 0
    assert not twin.parameters["fc1.weight"].any()


def of_process(kind: str, content: bytes) -> Learned:
    return learned(kind, pickle.loads(content))


def test_another_process_predicts_and_learns_the_same_bits() -> None:
    spawn = multiprocessing.get_context("spawn")
    originals = {kind: untrained(kind, "numpy") for kind in MODELS}
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        sent = {
            kind: pool.submit(of_process, kind, pickle.dumps(original))
            for kind, original in originals.items()
        }
        for kind, original in originals.items():
            assert_same(sent[kind].result(timeout=300), learned(kind, original))


@pytest.mark.peers
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_joblib_stores_and_sends_a_classifier(backend: str, tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    original = untrained("stacked", backend)
    joblib.dump(original, tmp_path / "classifier.joblib")
    twin = joblib.load(tmp_path / "classifier.joblib")
    found = joblib.Parallel(n_jobs=2)([joblib.delayed(learned)("stacked", original)] * 1)
    expected = learned("stacked", original)
    assert_same(learned("stacked", twin), expected)
    assert_same(found[0], expected)


def layers() -> dict[str, tuple[Layer, tuple[Any, ...], dict[str, Any]]]:
    """Layers with what they take."""
    backend: Backend = get_backend("numpy")
    options: Any = {"backend": backend, "random": Random(1)}
    packing = Packing.of(np.array([2, 4, 1]), backend)
    x = Random(2).normal((packing.rows, 4)).astype(np.float32)
    table = LookedUp(x, np.arange(packing.rows)[::-1].copy())
    sequence = SequenceConfig(cell="gru", input_size=4, output_size=2, hidden_size=6)
    packed = {"packing": packing}
    return {
        "linear": (Linear(4, 3, **options), (x,), {}),
        **{name: (CELLS[name](4, 6, **options), (table,), packed) for name in CELLS},
        "stack": (RecurrentStack("gru", 4, 6, bidirectional=True, **options), (x,), packed),
        "attention": (MultiHeadAttention(4, 2, **options), (x,), packed),
        "transformer": (TransformerEncoder(4, 6, num_heads=2, **options), (x,), packed),
        "sequence model": (SequenceModel(sequence, **options), (x,), packed),
    }


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("name", layers())
def test_a_copied_layer_and_a_copied_cache_give_the_same_gradients(
    name: str, duplicate: Copy
) -> None:
    layer, inputs, packed = layers()[name]
    twin = duplicate(layer)
    y, cache = layer.forward(*inputs, **packed)  # type: ignore[attr-defined]
    its_y, _ = twin.forward(*duplicate(inputs), **duplicate(packed))
    first, its_first = (each[0] if isinstance(each, tuple) else each for each in (y, its_y))
    assert np.array_equal(its_first, first)
    dy = (np.ones_like(first), None) if isinstance(y, tuple) else np.ones_like(first)
    layer.backward(dy, cache)  # type: ignore[attr-defined]
    twin.backward(dy, duplicate(cache))
    assert list(twin.grads) == list(layer.grads)
    for key, grad in layer.grads.items():
        assert grad.any() or "bias" in key or "in_proj" in key or "norm" in key
        assert np.array_equal(twin.grads[key], grad)
        assert not np.shares_memory(twin.grads[key], grad)


class Tied(Composite):
    """The same layer twice, and once more in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.once = self.add_layer("once", Linear(3, 3, random=Random(1)))
        self.again = self.once
        self.add_layer("twice", self.once)


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_what_is_shared_stays_shared(duplicate: Copy) -> None:
    twin = duplicate(Tied())
    assert twin.again is twin.once
    assert twin.sublayers[1][1] is twin.once
    for held, own in ((twin.parameters, twin.once.parameters), (twin.grads, twin.once.grads)):
        assert held["once.weight"] is held["twice.weight"] is own["weight"]
        held["once.weight"] = np.zeros((3, 3), np.float32)
        assert own["weight"] is held["once.weight"]


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copied_optimizer_decays_the_weights_of_its_own_layer(duplicate: Copy) -> None:
    def step(layer: Layer, optimizer: Adam) -> NDArray[Any]:
        layer.grads["weight"][...] = 0.5
        optimizer.step()
        return np.concatenate([value.ravel() for value in layer.parameters.values()])

    layer = Linear(3, 4)
    optimizer = Adam(FlatParameters({"fc": layer}, layer.backend), layer.backend, weight_decay=0.1)
    before = optimizer.flat.values.copy()
    pair = duplicate((layer, optimizer))
    assert np.array_equal(optimizer.flat.values, before)
    expected = step(layer, optimizer)
    assert not np.array_equal(expected, before)
    assert np.array_equal(step(*pair), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_estimator_keeps_its_backend(backend: str) -> None:
    if backend == "numba":
        pytest.importorskip("numba", reason="Numba is not installed")
    found = SurnameClassifierEstimator(
        backend=backend, cell="gru", num_epochs=2, embedding_size=6, rnn_hidden_size=8
    )
    names = [name for _, _, name in small_rows()]
    found.fit(names, [label for label, _, _ in small_rows()])
    for duplicate in COPIES.values():
        twin = duplicate(found)
        assert type(twin.model_.backend) is type(found.model_.backend)
        assert_views(twin.model_)
        assert np.array_equal(twin.predict_proba(NAMES), found.predict_proba(NAMES))
