"""Keras 3, live: every row of the table of conversions, both ways, outputs and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.exchange.choices import Choices
from npnlp.exchange.differences import difference, own_pass
from npnlp.exchange.foreign import read_model, write_model
from tests.support.exchange import C, V, made, same_bits, vectorizer_file
from tests.support.frameworks import NAMES, needed, same_gradients, same_logits
from tests.support.tables import npnlp

pytestmark = [
    pytest.mark.peers,
    # Keras's own variables, where they become arrays.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # What the page of frameworks says, too: the maximum over time does not know the mask.
    pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning"),
]
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "SimpleRNN": ("SimpleRNN", {}, {"cell": "elman"}),
    "SimpleRNN relu": ("SimpleRNN", {"activation": "relu"},
                       {"cell": "elman", "nonlinearity": "relu"}),
    "LSTM": ("LSTM", {}, {"cell": "lstm"}),
    "GRU after": ("GRU", {"reset_after": True}, {"cell": "gru", "reset": "after"}),
    "GRU before": ("GRU", {"reset_after": False}, {"cell": "gru", "reset": "before"}),
}  # fmt: skip
POOLED = {"last": None, "mean": "GlobalAveragePooling1D", "max": "GlobalMaxPooling1D"}
each_kind = pytest.mark.parametrize("kind", KINDS)
#: Layers, and whether in both directions; and what is left to the longer run.
SHAPES = [(1, False), (2, True), pytest.param(1, True, marks=pytest.mark.slow),
          pytest.param(2, False, marks=pytest.mark.slow)]  # fmt: skip
SEEDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 20))]


@pytest.fixture(scope="module")
def keras() -> Any:
    needed("h5py")
    return needed("keras")


def keras_model(
    keras: Any, kind: str, *, depth: int = 1, both: bool = False, pooling: str = "last",
    hidden: int = 6, size: int = 5, dense: bool = True, softmax: bool = False, **fields: Any,
) -> Any:  # fmt: skip
    layers, (name, own, _) = keras.layers, KINDS[kind]
    made_layers = [keras.Input((None,), dtype="int32"), layers.Embedding(V, size, mask_zero=True)]
    for number in range(depth):
        sequences = number + 1 < depth or pooling != "last"
        cell = getattr(layers, name)(hidden, return_sequences=sequences, **own, **fields)
        made_layers += [layers.Bidirectional(cell) if both else cell, layers.Dropout(0.2)]
    pool = POOLED[pooling]
    made_layers += [getattr(layers, pool)()] if pool else []
    made_layers += [layers.Dense(hidden, activation="relu")] if dense else []
    made_layers.append(layers.Dense(C, activation="softmax" if softmax else None))
    model = keras.Sequential(made_layers)
    random = np.random.default_rng(7)
    model.set_weights([0.5 * random.normal(size=w.shape) for w in model.get_weights()])
    return model


def logits_and_gradients(keras: Any, model: Any) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Of the mean cross-entropy, by PyTorch, on which Keras computes here."""
    torch = needed("torch")
    model.zero_grad()
    logits = model(torch.tensor(NAMES.tokens), training=False)
    torch.nn.functional.cross_entropy(logits, torch.tensor(NAMES.targets)).backward()
    grads = [np.asarray(v.value.grad.numpy()) for v in model.trainable_weights]
    return logits.detach().numpy(), grads


def with_gradients_as_weights(model: Any, grads: list[NDArray[Any]], path: Path) -> Path:
    """The file of the same model with the gradients where the weights are: what reads one, reads
    the other, since a conversion only moves numbers."""
    kept = model.get_weights()
    model.set_weights(grads)
    model.save(path)
    model.set_weights(kept)
    return path


@pytest.mark.parametrize(("depth", "both"), SHAPES)
@each_kind
def test_a_model_is_read_with_equal_outputs_and_gradients(
    keras: Any, kind: str, depth: int, both: bool, tmp_path: Path
) -> None:
    model = keras_model(keras, kind, depth=depth, both=both)
    logits, grads = logits_and_gradients(keras, model)
    model.save(tmp_path / "theirs.keras")
    taken = read_model(tmp_path / "theirs.keras", vectorizer_file(tmp_path))
    config = taken.model.config
    for name, value in KINDS[kind][2].items():
        assert getattr(config, name) == value
    assert (config.num_layers, config.bidirectional) == (depth, both)
    same_logits(taken, logits)
    path = with_gradients_as_weights(model, grads, tmp_path / "grads.keras")
    theirs = read_model(path, vectorizer_file(tmp_path)).model.state_dict()
    one_bias = kind != "GRU after"  # the other is zero there, and has no gradient in Keras
    wanted = {name: v for name, v in theirs.items() if not (one_bias and "bias_hh" in name)}
    same_gradients(own_pass(taken.model, NAMES)[2], wanted)


@pytest.mark.parametrize(("depth", "both"), SHAPES)
@each_kind
def test_a_model_is_written_and_loaded_by_keras(
    keras: Any, kind: str, depth: int, both: bool, tmp_path: Path
) -> None:
    classifier = made(**KINDS[kind][2], num_layers=depth, bidirectional=both, rnn_dropout=0.1)
    path = tmp_path / "ours.keras"
    write_model(classifier, path, "keras")
    model = keras.models.load_model(path)
    same_logits(classifier, logits_and_gradients(keras, model)[0])
    back = read_model(path)
    assert back.model.config == classifier.model.config
    same_logits(back, own_pass(classifier.model, NAMES)[0])
    write_model(classifier, tmp_path / "ours.weights.h5", "keras")
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    model.load_weights(tmp_path / "ours.weights.h5")
    same_logits(classifier, logits_and_gradients(keras, model)[0])


@pytest.mark.parametrize("pooling", POOLED)
@pytest.mark.parametrize("dense", [True, False])
def test_poolings_and_heads_both_ways(
    keras: Any, pooling: str, dense: bool, tmp_path: Path
) -> None:
    model = keras_model(keras, "LSTM", depth=2, pooling=pooling, dense=dense)
    model.save(tmp_path / "theirs.keras")
    taken = read_model(tmp_path / "theirs.keras", vectorizer_file(tmp_path))
    assert (taken.model.config.pooling, taken.model.config.hidden_layer) == (pooling, dense)
    same_logits(taken, logits_and_gradients(keras, model)[0])
    write_model(taken, tmp_path / "back.keras", "keras")
    back = keras.models.load_model(tmp_path / "back.keras")
    same_logits(taken, logits_and_gradients(keras, back)[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_random_shapes_both_ways(keras: Any, seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    kind = list(KINDS)[seed % len(KINDS)]
    sizes: dict[str, Any] = {
             "hidden": int(random.integers(1, 12)), "size": int(random.integers(1, 12)),
             "depth": int(random.integers(1, 4)), "both": bool(random.integers(2))}  # fmt: skip
    model = keras_model(keras, kind, **sizes)
    model.save(tmp_path / "theirs.keras")
    taken = read_model(tmp_path / "theirs.keras", vectorizer_file(tmp_path))
    same_logits(taken, logits_and_gradients(keras, model)[0])
    write_model(taken, tmp_path / "back.keras", "keras")
    same_bits(read_model(tmp_path / "back.keras"), taken)


@each_kind
@pytest.mark.parametrize("both", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_weights_alone_are_read_by_paths_and_shapes(
    keras: Any, kind: str, both: bool, tmp_path: Path
) -> None:
    model = keras_model(keras, kind, depth=2, both=both)
    model.save_weights(tmp_path / "theirs.weights.h5")
    said: list[str] = []
    choices = Choices(nonlinearity="relu" if "relu" in kind else None)
    taken = read_model(tmp_path / "theirs.weights.h5", vectorizer_file(tmp_path), choices, said)
    same_logits(taken, logits_and_gradients(keras, model)[0])
    assert "activations are taken" in said[0]


@pytest.mark.parametrize("reset", ["before", "after"])
def test_a_gru_without_biases_is_asked_for_its_reset(
    keras: Any, reset: str, tmp_path: Path
) -> None:
    model = keras_model(keras, f"GRU {reset}", use_bias=False)
    model.save_weights(tmp_path / "theirs.weights.h5")
    with pytest.raises(InputError, match="--reset before or --reset after"):
        read_model(tmp_path / "theirs.weights.h5", vectorizer_file(tmp_path))
    taken = read_model(tmp_path / "theirs.weights.h5", vectorizer_file(tmp_path),
                       Choices(reset=reset))  # fmt: skip
    same_logits(taken, logits_and_gradients(keras, model)[0])
    model.save(tmp_path / "theirs.keras")  # whose configuration says it
    same_bits(read_model(tmp_path / "theirs.keras", vectorizer_file(tmp_path)), taken)
    other = {"before": "after", "after": "before"}[reset]
    with pytest.raises(InputError, match=f"reset is '{reset}' in this file"):
        read_model(tmp_path / "theirs.keras", vectorizer_file(tmp_path), Choices(reset=other))


def test_a_functional_model_with_softmax_and_an_optimizer(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    x = keras.Input((None,), dtype="int32")
    y = layers.SpatialDropout1D(0.2)(layers.Embedding(V, 5, mask_zero=True)(x))
    y = layers.Bidirectional(layers.GRU(6, return_sequences=True, dropout=0.1))(y)
    y = layers.Dense(6)(layers.Dropout(0.3)(layers.GlobalAveragePooling1D()(y)))
    logits = layers.Dense(C)(layers.ReLU()(y))
    model = keras.Model(x, layers.Softmax()(logits))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(NAMES.tokens, NAMES.targets, verbose=0)
    model.save(tmp_path / "theirs.keras")
    taken = read_model(tmp_path / "theirs.keras", vectorizer_file(tmp_path))
    assert taken.model.config.dropout == 0.3
    same_logits(taken, logits_and_gradients(keras, keras.Model(x, logits))[0])


def test_the_maximum_over_masked_steps_of_both_directions_differs(
    keras: Any, tmp_path: Path
) -> None:
    """Keras's Bidirectional puts zeros where a text has ended, and the pooling takes them."""
    model = keras_model(keras, "GRU after", both=True, pooling="max")
    model.save(tmp_path / "theirs.keras")
    said: list[str] = []
    taken = read_model(tmp_path / "theirs.keras", vectorizer_file(tmp_path), said=said)
    assert "zero" in said[0]
    ours, padded = own_pass(taken.model, NAMES)[0], logits_and_gradients(keras, model)[0]
    assert not difference("logits", ours, padded).passed
    torch = needed("torch")
    for row, (tokens, length) in enumerate(zip(NAMES.tokens, NAMES.lengths, strict=True)):
        alone = model(torch.tensor(tokens[None, :length])).detach().numpy()
        assert difference("logits", ours[row : row + 1], alone).passed
    for pooling in ("last", "mean"):  # which look at the mask
        model = keras_model(keras, "GRU after", both=True, pooling=pooling)
        model.save(tmp_path / f"{pooling}.keras")
        taken = read_model(tmp_path / f"{pooling}.keras", vectorizer_file(tmp_path))
        same_logits(taken, logits_and_gradients(keras, model)[0])


def test_older_formats_and_missing_weights_are_refused(tmp_path: Path) -> None:
    h5py, path = needed("h5py"), tmp_path / "theirs.h5"
    for group, words in (("model_weights", r"in Keras's old format; in Keras: model.save"),
                         ("_layer_checkpoint_dependencies", "of Keras 2"),
                         ("other", "no group 'layers'")):  # fmt: skip
        with h5py.File(path, "w") as file:
            file[f"{group}/x"] = np.zeros(3)
        with pytest.raises(InputError, match=words):
            read_model(path, vectorizer_file(tmp_path))
    write_model(made(cell="gru"), tmp_path / "ours.weights.h5", "keras")
    with h5py.File(tmp_path / "ours.weights.h5", "r+") as file:
        del file["layers/gru/cell/vars/1"]
    with pytest.raises(InputError, match="gru/cell: "):
        read_model(tmp_path / "ours.weights.h5", vectorizer_file(tmp_path))


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"pooling": "last+mean"}, "a chain of layers"), ({"pooling": "attention"}, "no layer for"),
     ({"cell": "transformer", "num_heads": 2}, "no cell for transformer"),
     ({"padding_idx": 3}, "Keras masks token 0"), ({"ngram_orders": (2,)}, "n-grams")],
)  # fmt: skip
def test_what_keras_has_no_layer_for_is_refused(
    fields: dict[str, Any], words: str, tmp_path: Path
) -> None:
    needed("h5py")
    with pytest.raises(InputError, match=words):
        write_model(made(**fields), tmp_path / "ours.keras", "keras")
    assert not list(tmp_path.iterdir())


def test_the_commands_take_and_give_a_keras_file(keras: Any, tmp_path: Path) -> None:
    model = keras_model(keras, "GRU after", both=True)
    model.save(tmp_path / "theirs.keras")
    done = npnlp("import", tmp_path / "theirs.keras", "--save-dir", tmp_path / "new",
                 "--vectorizer-file", vectorizer_file(tmp_path))  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"gru, reset after, 1 x 6, both directions" in done.stdout
    taken = Classifier.load(tmp_path / "new" / "model.safetensors")
    same_logits(taken, logits_and_gradients(keras, model)[0])
    done = npnlp("export", "--save-dir", tmp_path / "new", "--format", "keras")
    assert (done.returncode, done.stderr) == (0, b"")
    back = keras.models.load_model(tmp_path / "new" / "model.keras")
    same_logits(taken, logits_and_gradients(keras, back)[0])
