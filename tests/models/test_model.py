"""The whole classifier: its function, its gradient, updates of it, and an epoch of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnlp.backend import Backend, Random, get_backend
from npnlp.classifier.batches import batches
from npnlp.errors import InputError
from npnlp.gradients import check_adjoint, check_gradients
from npnlp.layers import Dropout, Packing, SoftmaxCrossEntropy
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SurnameDataset, SurnameVectorizer
from npnlp.training.clipping import clip_grad_norm
from npnlp.training.config import TrainingConfig
from npnlp.training.optimizers import make_optimizer
from npnlp.training.trainer import Trainer
from tests.support import reference
from tests.support.reference import BOUNDS, Floats, assert_close, host, pack

NUMPY = get_backend("numpy")
CONFIG = ClassifierConfig(num_embeddings=8, num_classes=3, embedding_size=4, rnn_hidden_size=5)
NAMES = [[1, 5, 2], [7], [3, 3, 0, 6, 2], [1, 2, 3, 5, 7], [6, 5]]
TARGETS = [0, 2, 1, 1, 0]
WEIGHTS = [0.3, 1.0, 2.0]
property_test = settings(max_examples=15)


def classifier(
    backend: Backend = NUMPY, dtype: Any = np.float64, config: ClassifierConfig = CONFIG
) -> SurnameClassifier:
    return SurnameClassifier(config, backend=backend, dtype=dtype, random=Random(11))


def batch(names: Sequence[Sequence[int]], backend: Backend) -> tuple[Any, Packing]:
    lengths = [len(name) for name in names]
    padded = np.zeros((max(lengths), len(names)), dtype=np.int64)
    for b, name in enumerate(names):
        padded[: len(name), b] = name
    return backend.asarray(pack(padded, lengths)), Packing.of(np.array(lengths), backend)


def with_vocabulary(names: Sequence[Sequence[int]], backend: Backend) -> dict[str, Any]:
    """The inputs where tokens number only the rows of the embedding that occur."""
    occurring = sorted({token for name in names for token in name})
    numbered = [[occurring.index(token) for token in name] for name in names]
    tokens, packing = batch(numbered, backend)
    vocabulary = backend.asarray(np.array(occurring))
    return {"tokens": tokens, "packing": packing, "vocabulary": vocabulary}


def plain(names: Sequence[Sequence[int]], backend: Backend) -> dict[str, Any]:
    tokens, packing = batch(names, backend)
    return {"tokens": tokens, "packing": packing}


def gradients(
    model: SurnameClassifier, inputs: dict[str, Any], targets: Sequence[int], **keywords: Any
) -> dict[str, Floats]:
    """Of the summed (not the mean) weighted loss, so that batches can be added."""
    backend = model.backend
    weights = backend.asarray(np.array(WEIGHTS), dtype=model.dtype)
    criterion = SoftmaxCrossEntropy(weights, backend=backend, dtype=model.dtype)
    logits, cache = model.forward(**inputs, **keywords)
    _, sums = criterion.forward(logits, backend.asarray(np.array(targets)))
    model.zero_grads()
    model.backward(criterion.backward(sums.weight_sum, sums), cache)
    return host(backend, model.grads)


@pytest.mark.parametrize("phi", ["tanh", "relu"])
def test_logits_equal_the_loops(phi: str, backend: Backend, dtype: np.dtype[Any]) -> None:
    config = ClassifierConfig(8, 3, embedding_size=4, rnn_hidden_size=5, nonlinearity=phi)
    model = classifier(backend, dtype, config)
    expected = reference.classifier(NAMES, host(backend, model.parameters), phi)
    for inputs in (plain(NAMES, backend), with_vocabulary(NAMES, backend)):
        logits, _ = model.forward(**inputs)
        assert logits.dtype == dtype
        assert_close(logits, expected, BOUNDS[dtype.name], backend)


@pytest.mark.parametrize("random", [None, Random(5, "training")], ids=["evaluation", "dropout"])
def test_gradients_by_complex_step_and_adjoint(random: Random | None, backend: Backend) -> None:
    names = [[token or 4 for token in name] for name in NAMES]  # padding has no gradient
    model, (tokens, packing) = classifier(backend), batch(names, backend)
    inputs: dict[str, Any] = {"packing": packing, "random": random}
    report = check_gradients(model, tokens, **inputs)
    assert report.passed, str(report)
    assert check_adjoint(model, tokens, **inputs).passed
    small = with_vocabulary(names, backend)
    report = check_gradients(model, small["tokens"], vocabulary=small["vocabulary"], **inputs)
    assert report.passed, str(report)


@pytest.mark.parametrize("random", [None, Random(5, "training")], ids=["evaluation", "dropout"])
def test_numbering_only_what_occurs_changes_nothing(
    random: Random | None, backend: Backend
) -> None:
    model = classifier(backend)
    logits = [
        backend.to_numpy(model.forward(**inputs, random=random)[0]).copy()
        for inputs in (plain(NAMES, backend), with_vocabulary(NAMES, backend))
    ]
    assert_close(logits[1], logits[0])
    whole = gradients(model, plain(NAMES, backend), TARGETS, random=random)
    small = gradients(model, with_vocabulary(NAMES, backend), TARGETS, random=random)
    for name, gradient in whole.items():
        assert_close(small[name], gradient)


def test_only_rows_that_occur_have_a_gradient(backend: Backend) -> None:
    for inputs in (plain(NAMES, backend), with_vocabulary(NAMES, backend)):
        d_table = gradients(classifier(backend), inputs, TARGETS)["emb.weight"]
        rows_with_gradient = np.flatnonzero(np.abs(d_table).max(axis=1))
        assert rows_with_gradient.tolist() == [1, 2, 3, 5, 6, 7]  # 0 is padding, 4 is nowhere


def test_a_second_backward_pass_adds_the_same(backend: Backend) -> None:
    model = classifier(backend)
    logits, cache = model.forward(**with_vocabulary(NAMES, backend), random=Random(1))
    d_logits = backend.asarray(reference.draw(0, *logits.shape))
    model.backward(d_logits, cache)
    once = host(backend, model.grads)
    model.backward(d_logits, cache)
    for name, grad in host(backend, model.grads).items():
        assert np.abs(once[name]).max() > 0
        assert_close(grad, 2 * once[name], 1e-14)


NAME_LISTS = st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=6), min_size=1, max_size=5)


@property_test
@given(names=NAME_LISTS, data=st.data())
def test_another_order_of_names_changes_only_the_order(
    backend: Backend, names: list[list[int]], data: st.DataObject
) -> None:
    model = classifier(backend)
    order = data.draw(st.permutations(range(len(names))))
    targets = [len(name) % 3 for name in names]
    logits = backend.to_numpy(model.forward(**with_vocabulary(names, backend))[0])
    turned = with_vocabulary([names[b] for b in order], backend)
    assert_close(model.forward(**turned)[0], logits[order], backend=backend, floor=1.0)
    expected = gradients(model, with_vocabulary(names, backend), targets)
    for name, gradient in gradients(model, turned, [targets[b] for b in order]).items():
        assert_close(gradient, expected[name], floor=1.0)


@property_test
@given(names=NAME_LISTS, data=st.data())
def test_the_gradients_of_a_split_batch_add_up(
    backend: Backend, names: list[list[int]], data: st.DataObject
) -> None:
    model = classifier(backend)
    targets = [len(name) % 3 for name in names]
    cut = data.draw(st.integers(0, len(names)))
    whole = gradients(model, with_vocabulary(names, backend), targets)
    sums = {name: np.zeros_like(value) for name, value in whole.items()}
    for rows in (slice(0, cut), slice(cut, None)):
        if names[rows]:
            part = gradients(model, with_vocabulary(names[rows], backend), targets[rows])
            for name, total in sums.items():
                total += part[name]
    for name, gradient in whole.items():
        assert_close(sums[name], gradient, floor=1.0)


def test_dropout_is_a_function_of_the_stream_and_the_step() -> None:
    model, inputs = classifier(), plain(NAMES, NUMPY)

    def logits(random: Random | None) -> list[Any]:
        found: list[Any] = model.forward(**inputs, random=random)[0].tolist()
        return found

    masks = Random(5, "training")
    assert logits(None) == logits(None)
    assert logits(masks.at(3)) == logits(masks.at(3))
    seen = [logits(r) for r in (None, masks.at(3), masks.at(4), Random(6, "training").at(3))]
    assert all(a != b for i, a in enumerate(seen) for b in seen[:i])


def test_the_two_dropout_layers_have_masks_of_their_own() -> None:
    model = classifier(config=ClassifierConfig(8, 3, rnn_hidden_size=40))
    _, cache = model.forward(**plain(NAMES, NUMPY), random=Random(0))
    first, second = cache.dropout1.scale, cache.dropout2.scale
    assert first.shape == second.shape == (5, 40)
    assert (first != second).any()
    assert set(np.unique(first)) == set(np.unique(second)) == {0.0, 2.0}


def updated(name: str, backend: Backend, dtype: Any, steps: int = 2) -> dict[str, Floats]:
    """The weights after updates with dropout, class weights and clipping."""
    model = classifier(backend, dtype)
    weights = backend.asarray(np.array(WEIGHTS), dtype=dtype)
    criterion = SoftmaxCrossEntropy(weights, backend=backend, dtype=dtype)
    optimizer = make_optimizer(name, model.flat, backend, 0.05, 0.9)
    for step in range(steps):
        inputs = with_vocabulary(NAMES[step:], backend)
        targets = backend.asarray(np.array(TARGETS[step:]))
        logits, cache = model.forward(**inputs, random=Random(2).at(step))
        _, sums = criterion.forward(logits, targets)
        model.zero_grads()
        model.backward(criterion.backward(1.0, sums), cache)
        clip_grad_norm(model.flat.grads, 0.3, backend)
        optimizer.step()
    return host(backend, model.parameters)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_two_updates_are_the_same_on_every_backend(
    name: str, backend: Backend, dtype: np.dtype[Any]
) -> None:
    expected, start = updated(name, NUMPY, dtype), updated(name, NUMPY, dtype, steps=0)
    for parameter, value in updated(name, backend, dtype).items():
        assert np.abs(value - start[parameter]).max() > 0
        assert_close(value, expected[parameter], BOUNDS[dtype.name])


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_two_updates_equal_updates_with_numerical_gradients(name: str) -> None:
    """The whole chain, without a line of npnlp's backward passes."""
    model = classifier()
    flat = model.flat
    weights = flat.values.copy()
    optimizer = make_optimizer(name, flat, NUMPY, 0.05, 0.9)
    inputs, grads = plain([[1, 5, 2], [7], [3, 6]], NUMPY), []
    criterion = SoftmaxCrossEntropy(dtype=np.float64)
    for _ in range(2):
        grads.append(numerical_gradient(model, inputs, [0, 2, 1]))
        logits, cache = model.forward(**inputs)
        _, sums = criterion.forward(logits, np.array([0, 2, 1]))
        model.zero_grads()
        model.backward(criterion.backward(1.0, sums), cache)
        optimizer.step()
    expected = (
        reference.adam(weights, grads, 0.05)
        if name == "adam"
        else reference.sgd(weights, grads, 0.05, 0.9)
    )
    assert_close(flat.values, expected[0], 1e-9)


def numerical_gradient(
    model: SurnameClassifier, inputs: dict[str, Any], targets: list[int]
) -> Floats:
    """``Im L(w + ih) / h`` of every weight; the padding row's is zero by definition."""
    twin = model.astype(np.complex128)
    found = np.zeros(twin.flat.values.size)
    for place in range(found.size):
        twin.flat.values[place] += 1e-20j
        logits, _ = twin.forward(**inputs)
        exponentials = np.exp(logits)
        probabilities = exponentials / exponentials.sum(axis=1)[:, None]
        losses = -np.log(probabilities[np.arange(len(targets)), targets])
        found[place] = losses.mean().imag / 1e-20
        twin.flat.values[place] -= 1e-20j
    found[: model.config.embedding_size] = 0.0
    return found


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_the_padding_row_stays_zero_through_updates(name: str, backend: Backend) -> None:
    assert any(0 in names for names in NAMES[1:])
    table = updated(name, backend, np.float64, steps=3)["emb.weight"]
    assert not table[0].any()
    assert table[1:].all()


def test_parameters_carry_pytorchs_names_and_shapes() -> None:
    shapes = {name: value.shape for name, value in classifier().parameters.items()}
    assert shapes == {
        "emb.weight": (8, 4),
        "rnn.weight_ih_l0": (5, 4),
        "rnn.weight_hh_l0": (5, 5),
        "rnn.bias_ih_l0": (5,),
        "rnn.bias_hh_l0": (5,),
        "fc1.weight": (5, 5),
        "fc1.bias": (5,),
        "fc2.weight": (3, 5),
        "fc2.bias": (3,),
    }


def test_the_layers_see_the_one_buffer(backend: Backend) -> None:
    model = classifier(backend)
    before = backend.to_numpy(model.forward(**plain(NAMES, backend))[0]).copy()
    model.flat.values[...] = 0
    logits = backend.to_numpy(model.forward(**plain(NAMES, backend))[0])
    assert before.any()
    assert not logits.any()
    gradients(model, plain(NAMES, backend), TARGETS)
    assert backend.to_numpy(model.flat.grads).any()
    model.zero_grads()
    assert not any(grad.any() for grad in host(backend, model.grads).values())


def test_a_saved_state_comes_back_and_shares_nothing(backend: Backend) -> None:
    model = classifier(backend)
    state = model.state_dict()
    kept = {name: value.copy() for name, value in state.items()}
    model.flat.values *= 0
    assert all((state[name] == value).all() for name, value in kept.items())
    model.load_state_dict(state)
    for name, value in host(backend, model.parameters).items():
        np.testing.assert_array_equal(value, kept[name])
    model.flat.values += 1
    assert all((state[name] == value).all() for name, value in kept.items())


def test_a_state_that_does_not_fit_is_refused() -> None:
    model = classifier()
    state = model.state_dict()
    with pytest.raises(InputError, match=r"'fc3\.bias' does not belong"):
        model.load_state_dict({**state, "fc3.bias": np.zeros(3)})
    with pytest.raises(InputError, match=r"'fc1\.bias' has shape \(4,\), not \(5,\)"):
        model.load_state_dict({**state, "fc1.bias": np.zeros(4)})
    del state["rnn.bias_hh_l0"]
    with pytest.raises(InputError, match=r"'rnn\.bias_hh_l0' is missing"):
        model.load_state_dict(state)


def test_a_copy_in_another_dtype_computes_the_same_and_shares_nothing() -> None:
    model = classifier(dtype=np.float32)
    twin = model.astype(np.float64)
    single, double = (m.forward(**plain(NAMES, NUMPY))[0] for m in (model, twin))
    assert_close(single, double, 1e-5)
    twin.flat.values += 1
    np.testing.assert_array_equal(model.forward(**plain(NAMES, NUMPY))[0], single)


def test_weights_depend_on_seed_and_name_only() -> None:
    small, wide = (
        SurnameClassifier(ClassifierConfig(8, classes, rnn_hidden_size=5), random=Random(1))
        for classes in (3, 9)
    )
    for name in ("emb.weight", "rnn.weight_hh_l0", "fc1.weight"):
        np.testing.assert_array_equal(small.parameters[name], wide.parameters[name])
    other = SurnameClassifier(ClassifierConfig(8, 3, rnn_hidden_size=5), random=Random(2))
    assert (other.parameters["fc1.weight"] != small.parameters["fc1.weight"]).all()
    assert (small.parameters["fc1.weight"] != small.parameters["rnn.weight_hh_l0"]).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cell": "gru2"}, "cell 'gru2' is not known"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"rnn_hidden_size": 2.5}, "rnn_hidden_size is 2.5"),
        ({"width": 3}, "unknown field 'width'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": "much"}, "dropout"),
        ({"nonlinearity": "sigmoid"}, "nonlinearity 'sigmoid' is not known"),
        ({"padding_idx": 8}, "padding_idx is 8"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        SurnameClassifier(ClassifierConfig.from_dict(CONFIG.to_dict() | change))


def test_an_incomplete_configuration_is_refused() -> None:
    values = CONFIG.to_dict()
    assert ClassifierConfig.from_dict(values) == CONFIG
    del values["num_classes"]
    with pytest.raises(InputError, match=r"incomplete: .*num_classes"):
        ClassifierConfig.from_dict(values)


def dataset() -> SurnameDataset:
    spoken = {
        "Irish": ["Adams", "O'Neal", "Mac", "Kelly", "Byrne", "Ryan"],
        "Italian": ["Rossi", "Bianchi", "Ricci", "Conti", "De Luca", "Gallo"],
        "Greek": ["Pappas", "Kostas", "Nikas", "Samaras", "Xenakis", "Vlahos"],
    }
    splits = ["train", "train", "train", "train", "val", "test"]
    frame = pd.DataFrame(
        [
            {"nationality": nationality, "surname": name, "split": split}
            for nationality, names in spoken.items()
            for name, split in zip(names, splits, strict=True)
        ]
    )
    train = frame[frame["split"] == "train"]
    return SurnameDataset(frame, SurnameVectorizer.from_dataframe(train))


def trained(backend: Backend, dtype: Any, optimizer: str) -> tuple[dict[str, Any], Trainer]:
    data = dataset()
    vectorizer = data.get_vectorizer()
    config = ClassifierConfig(
        len(vectorizer.char_vocab), len(vectorizer.nationality_vocab),
        embedding_size=6, rnn_hidden_size=7,
    )  # fmt: skip
    trainer = Trainer(
        SurnameClassifier(config, backend=backend, dtype=dtype, random=Random(0, "model")),
        data.arrays("train"),
        data.arrays("val"),
        TrainingConfig(learning_rate=0.01, batch_size=5, optimizer=optimizer, clip_norm=0.5),
        data.class_weights("balanced"),
    )
    row = trainer.run_epoch()
    return {k: v for k, v in row.items() if k not in ("seconds", "names_per_second")}, trainer


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_an_epoch_of_training_is_the_same_on_every_backend(
    optimizer: str, backend: Backend, dtype: np.dtype[Any]
) -> None:
    row, trainer = trained(backend, dtype, optimizer)
    expected_row, expected = trained(NUMPY, dtype, optimizer)
    assert trainer.optimizer.steps == 3
    bound = BOUNDS[dtype.name]
    assert row == pytest.approx(expected_row, rel=10 * bound)
    for name, value in host(backend, trainer.model.parameters).items():
        assert_close(value, expected.model.parameters[name], bound)
    tensors, values = trainer.state()
    expected_tensors, expected_values = expected.state()
    assert values["schedule"]["best"] == pytest.approx(row["val_loss"])
    assert values.keys() == expected_values.keys()
    for name, tensor in tensors.items():
        assert_close(tensor, expected_tensors[name], 10 * bound)


def test_a_training_step_is_forward_loss_backward_clip_and_update(backend: Backend) -> None:
    _, trainer = trained(backend, np.float64, "adam")
    _, by_hand = trained(backend, np.float64, "adam")
    (batch,) = batches(trainer.train, np.arange(7), 7, backend)
    trainer.step(batch)

    model, steps = by_hand.model, by_hand.optimizer.steps
    assert steps == 3
    masks = Random(by_hand.config.seed, "training").at(steps)
    logits, cache = model.forward(**batch.inputs, random=masks)
    loss, sums = by_hand.criterion.forward(logits, batch.targets)
    model.zero_grads()
    model.backward(by_hand.criterion.backward(1.0, sums), cache)
    grads = backend.to_numpy(model.flat.grads).copy()
    clip_grad_norm(model.flat.grads, 0.5, backend)
    by_hand.optimizer.step()

    np.testing.assert_array_equal(
        backend.to_numpy(trainer.model.flat.values), backend.to_numpy(model.flat.values)
    )
    found = backend.to_numpy(trainer.log)[0]
    guesses = backend.to_numpy(logits).argmax(axis=1)
    hits = (guesses == backend.to_numpy(batch.targets)).sum()
    assert found[0] / found[1] == pytest.approx(float(loss))
    assert found[2] == hits
    assert found[3] == pytest.approx(np.linalg.norm(grads))
    assert np.sqrt(found[4:].sum()) == pytest.approx(np.linalg.norm(grads))


def test_evaluation_has_no_dropout_and_training_has() -> None:
    model = classifier()
    assert isinstance(model.dropout1, Dropout)
    expected = reference.classifier(NAMES, model.parameters)
    assert_close(model.forward(**plain(NAMES, NUMPY))[0], expected)
    dropped = model.forward(**plain(NAMES, NUMPY), random=Random(0))[0]
    assert np.abs(dropped - expected).max() > 0.01
