"""Many models in one launch: each is the NumPy trainer that it would be alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random, get_backend
from npnlp.diagnosis.finding import examine
from npnlp.errors import DeviceError, DivergenceError
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SplitArrays, SurnameDataset, own_table_path
from npnlp.training import many as many_module
from npnlp.training.alike import no_room, obstacle
from npnlp.training.config import TrainingConfig
from npnlp.training.many import ManyTrainers
from npnlp.training.schedule import EarlyStopping
from npnlp.training.trainer import Trainer
from tests.support.capturing import CapturingBackend
from tests.support.cupy_on_shim import CupyOnShim, ShimKernels
from tests.support.shim import compiled, require_compiler

NUMPY = get_backend("numpy")
BATCH, NAMES, SEEDS = 16, 58, (1, 2, 3)  # three whole batches and one of 10
#: Model and training: every part that the kernels have. The products of "lstm" have several tiles.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "elman": ({}, {"clip_norm": 0.3, "weight_decay": 0.1}),
    "relu": ({"nonlinearity": "relu", "dropout": 0.0}, {"gradient_flow": False, "beta2": 0.99}),
    "gru": ({"cell": "gru"}, {"schedule": "onecycle"}),
    "lstm": ({"cell": "lstm", "rnn_hidden_size": 17, "embedding_size": 67}, {"bucket": 2}),
}  # fmt: skip
each_variant = pytest.mark.parametrize("variant", VARIANTS)
Made = Callable[..., Trainer]


@pytest.fixture(scope="module")
def data() -> tuple[ClassifierConfig, SplitArrays, SplitArrays]:
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(own_table_path())
    vectorizer = dataset.get_vectorizer()
    sizes = len(vectorizer.char_vocab), len(vectorizer.nationality_vocab)
    split = dataset.arrays("val")
    return (ClassifierConfig(*sizes, embedding_size=6, rnn_hidden_size=8),
            part_of(split, np.linspace(0, len(split) - 1, NAMES)),
            part_of(split, np.linspace(3, len(split) - 9, 37)))  # fmt: skip


def part_of(split: SplitArrays, rows: Any) -> SplitArrays:
    """Some rows, of which a few are cut to a single step."""
    starts, lengths, targets = (
        getattr(split, name)[rows.astype(int)] for name in ("starts", "lengths", "targets")
    )
    lengths = np.where(np.arange(len(rows)) % 11 == 5, 1, lengths)
    return SplitArrays(split.tokens, starts, lengths, targets)


@pytest.fixture
def make(data: Any) -> Made:
    def made(
        seed: int, variant: str = "elman", weights: Any = None, dtype: Any = np.float32,
        shape: Any = None, train: SplitArrays | None = None, **more: Any,
    ) -> Trainer:  # fmt: skip
        of_model, training = VARIANTS[variant]
        config = replace(data[0], **of_model | (shape or {}))
        model = SurnameClassifier(config, backend=NUMPY, dtype=dtype, random=Random(seed, "model"))
        settings = TrainingConfig(
            **({"num_epochs": 3, "seed": seed, "batch_size": BATCH} | training | more)
        )
        return Trainer(model, train or data[1], data[2], settings, weights, examine=examine)

    return made


@pytest.fixture(params=["shim", pytest.param("cupy", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Any:
    if request.param == "shim":
        require_compiler()
        return CupyOnShim()
    try:
        return get_backend("cupy")
    except DeviceError as error:
        pytest.skip(str(error))


def epochs(device: Any, trainers: Sequence[Trainer], count: int = 2) -> ManyTrainers:
    many = ManyTrainers(device, trainers)
    for _ in range(count):
        rows = many.run_epoch(range(len(trainers)))
        assert all(isinstance(row, dict) for row in rows.values())
    return many


def everything(trainer: Trainer) -> dict[str, Any]:
    """All that a trainer has come to, but for how long it took."""
    tensors, values = trainer.state()
    history = [
        {name: value for name, value in row.items() if "second" not in name}
        for row in values["progress"]["history"]
    ]
    values["progress"] = values["progress"] | {"history": history}
    return {name: tensor.copy() for name, tensor in tensors.items()} | values


def equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_equal(value, other[name], err_msg=name)


def close(one: Any, other: Any, rtol: float, atol: float) -> None:
    """All numbers of nested values; what is no float is equal."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            close(one[name], other[name], rtol, atol)
    elif isinstance(one, list):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            close(mine, theirs, rtol, atol)
    elif isinstance(one, float) or getattr(one, "dtype", np.dtype(int)).kind == "f":
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)
    else:
        np.testing.assert_equal(one, other)


@each_variant
def test_every_trainer_comes_to_what_it_would_alone(device: Any, make: Made, variant: str) -> None:
    """In float64 nothing is rounding: weights, moments, log, history, best weights and flow."""
    ours, theirs = ([make(s, variant, dtype=np.float64) for s in SEEDS] for _ in range(2))
    epochs(device, ours)
    for mine, right in zip(ours, theirs, strict=True):
        for _ in range(2):
            right.run_epoch()
        close(everything(mine), everything(right), rtol=1e-9, atol=1e-11)
        assert (len(mine.flow) > 0) == mine.config.gradient_flow


@pytest.mark.parametrize("variant", ["elman", "lstm"])
def test_the_loss_curves_are_numpys_in_float32(device: Any, make: Made, variant: str) -> None:
    ours, theirs = ([make(seed, variant) for seed in SEEDS] for _ in range(2))
    epochs(device, ours)
    for mine, right in zip(ours, theirs, strict=True):
        for _ in range(2):
            right.run_epoch()
        np.testing.assert_allclose(mine.log[:, 0], right.log[:, 0], rtol=1e-4)
        np.testing.assert_array_equal(mine.log[:, 1:3], right.log[:, 1:3])
        np.testing.assert_allclose(mine.log[:, 3:], right.log[:, 3:], rtol=2e-3, atol=1e-9)
        for row, expected in zip(mine.progress.history, right.progress.history, strict=True):
            assert row["val_accuracy"] == expected["val_accuracy"]
            assert row["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-4)


@each_variant
def test_a_gradient_is_that_of_the_layers(device: Any, make: Made, variant: str) -> None:
    trainer, right = (make(5, variant, gradient_flow=False) for _ in range(2))
    many = ManyTrainers(device, [trainer])
    many._begin([0])
    many.models.train(device.asarray(np.zeros(1, dtype=np.int32)), 0, 1, None)
    with pytest.raises(KeyboardInterrupt):
        right.run_epoch(on_batch=interrupt)
    # NumPy clips its gradient in place; the norms before that are compared above.
    (grads,) = device.to_numpy(many.models.grads)
    grads = grads * (np.linalg.norm(right.model.flat.grads) / np.linalg.norm(grads))
    np.testing.assert_allclose(grads, right.model.flat.grads, rtol=1e-5, atol=1e-7)
    assert np.count_nonzero(grads) > len(grads) / 4


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("lengths", ["ones", "one batch"])
def test_names_of_one_letter_and_a_single_batch(device: Any, make: Made, lengths: str) -> None:
    whole = make(1).train
    rows = slice(0, 7)
    own = np.ones(7, dtype=np.int64) if lengths == "ones" else whole.lengths[rows]
    few = SplitArrays(whole.tokens, whole.starts[rows], own, whole.targets[rows])
    ours, theirs = (make(1, train=few, dtype=np.float64, batch_size=7) for _ in range(2))
    epochs(device, [ours])
    for _ in range(2):
        theirs.run_epoch()
    close(everything(ours), everything(theirs), rtol=1e-9, atol=1e-11)


def test_class_weights_are_weighed(device: Any, make: Made) -> None:
    weights = np.linspace(0.5, 2, 18)
    ours, theirs = (
        [make(seed, weights=weights, dtype=np.float64) for seed in SEEDS] for _ in range(2)
    )
    epochs(device, ours)
    for mine, right in zip(ours, theirs, strict=True):
        for _ in range(2):
            right.run_epoch()
        close(everything(mine), everything(right), rtol=1e-9, atol=1e-11)


def test_masks_have_numpys_bits(device: Any, make: Made) -> None:
    trainers = [make(seed) for seed in SEEDS]
    many = ManyTrainers(device, trainers)
    many._begin([0, 1, 2])
    many.models.train(device.asarray(np.arange(3, dtype=np.int32)), 2, 3, None)
    models = many.models
    places = device.to_numpy(models.places)
    numbers = device.to_numpy(models.numbers).reshape(-1, places[-1])
    for slot, trainer in enumerate(trainers):
        stream = trainer.random.at(2).child("dropout1")
        keep = stream.keep((BATCH, 8), trainer.model.config.dropout)
        scales = numbers[slot, places[10] : places[10] + BATCH * 8].reshape(BATCH, 8)
        np.testing.assert_array_equal(scales, keep * np.float32(2))
        assert 0.2 < keep.mean() < 0.8


def test_a_seed_has_the_same_bits_whatever_others_there_are(device: Any, make: Made) -> None:
    """Alone, in another place, and with the threads in another order."""
    together = [make(seed) for seed in SEEDS]
    epochs(device, together)
    if isinstance(device, CupyOnShim):
        device.kernels.seed = 7
    alone, other = make(2), [make(seed) for seed in (9, 3, 2)]
    epochs(device, [alone])
    epochs(device, other)
    equal(everything(alone), everything(together[1]))
    equal(everything(other[2]), everything(together[1]))
    equal(everything(other[1]), everything(together[2]))


def test_some_stop_early_or_diverge_and_the_others_go_on(device: Any, make: Made) -> None:
    """The message, the batch and the state before it are those of the trainer alone."""

    def prepared() -> list[Trainer]:
        trainers = [make(seed) for seed in SEEDS]
        trainers[0].stopper = EarlyStopping(1, best=0.0)
        trainers[1].optimizer.learning_rate = 1e17
        return trainers

    ours, theirs = prepared(), prepared()
    many = ManyTrainers(device, ours)
    rows = many.run_epoch([0, 1, 2])
    theirs[0].run_epoch()
    with pytest.raises(DivergenceError) as raised:
        theirs[1].run_epoch()
    found = rows[1]
    assert isinstance(found, DivergenceError)
    assert str(found) == str(raised.value)
    assert found.replay is not None
    assert ours[1].progress.batch == theirs[1].progress.batch > 0
    assert ours[1].optimizer.steps == theirs[1].optimizer.steps
    np.testing.assert_allclose(ours[1].model.flat.values, theirs[1].model.flat.values, rtol=1e-4)
    assert (ours[0].finished, ours[2].finished) == (True, False)
    assert set(many.run_epoch([2])) == {2}
    before = everything(ours[0])
    for _ in range(2):
        theirs[2].run_epoch()
    close(everything(ours[2]), everything(theirs[2]), rtol=1e-3, atol=1e-5)
    equal(everything(ours[0]), before)


def test_squares_that_overflow_where_no_number_does_are_no_alarm(device: Any, make: Made) -> None:
    """The host takes the rest of that epoch; the next one begins on the device again."""
    trainers = [make(seed, gradient_flow=False) for seed in (1, 2)]
    right = make(2, gradient_flow=False)
    for trainer in (trainers[1], right):
        trainer.model.parameters["emb.weight"][3, 0] = 3e19
    epochs(device, trainers)
    for _ in range(2):
        right.run_epoch()
    equal(everything(trainers[1]), everything(right))
    assert trainers[0].progress.epoch == 2


def test_rates_that_may_overflow_are_the_hosts(device: Any, make: Made) -> None:
    ours, theirs = (make(1, learning_rate=1e25, gradient_flow=False) for _ in range(2))
    rows = ManyTrainers(device, [ours]).run_epoch([0])
    with pytest.raises(DivergenceError) as raised:
        theirs.run_epoch()
    assert str(rows[0]) == str(raised.value)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_run_that_was_interrupted_goes_on_to_the_same_bits(
    device: Any, make: Made, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_module, "STEPS", 1)
    whole, begun, resumed = ([make(seed, "gru") for seed in SEEDS] for _ in range(3))
    epochs(device, whole)
    many = epochs(device, begun, 1)
    steps = iter(range(1, 9))
    with pytest.raises(KeyboardInterrupt):
        many.run_epoch(range(3), lambda: interrupt() if next(steps) == batch else None)
    for trainer, before in zip(resumed, begun, strict=True):
        assert before.progress.batch == batch
        trainer.load_state(*before.state())
    epochs(device, resumed, 1)
    for trainer, right in zip(resumed, whole, strict=True):
        equal(everything(trainer), everything(right))


def test_an_epoch_reads_nothing_before_its_end(make: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    require_compiler()
    monkeypatch.setattr(many_module, "STEPS", 1)
    backend = CapturingBackend()
    many = ManyTrainers(backend, [make(seed) for seed in SEEDS])
    for epoch in range(2):
        backend.device.reads.clear()
        uploads, seen = backend.device.uploads, []
        many.run_epoch(
            range(3),
            lambda: seen.append((list(backend.device.reads), backend.device.uploads)),  # noqa: B023
        )
        # The state, at first; the orders, first batches, steps and rates; and who takes part.
        assert seen == [([], uploads + (9 if epoch == 0 else 5))] * 4
        assert backend.device.reads == ["asnumpy"] * 8
    assert backend.kernels.launched.count("many_train") == 8
    assert backend.kernels.launched.count("many_evaluate") == 2


#: A mistake in each part of a step, and the source that it is made in.
FAULTS = {
    "what goes through W_hh": (
        ": h > 0 ? d : (REAL)0;  // undoes h\n  d = 0;", ": h > 0 ? d : (REAL)0;"
    ),
    "another step's mask": ("begun[slot] + batch, threshold", "begun[slot], threshold"),
    "another model's order": ("order + (long long)slot * rows", "order"),
    "the row before": ("as_is(hidden + row_before * units", "as_is(hidden + row * units"),
    "tanh": ("(1 - h * h) * d", "(1 - h) * d"),
    "ReLU's slope": ("scale2[item] = a > 0 ? scale : (REAL)0;", ""),
    "dropout of the input": ("nullptr, model.at(SCALE1), false}", "nullptr, nullptr, false}"),
    "the first row of dW_hh": ("previous + first}", "previous + first - 1}"),
    "padding": ("d_table[padding * features + n] = 0;", "d_table[padding * features + n] = 1;"),
    "decay of a bias": ("bool bias = part == B_IH ||", "bool bias ="),
    "clipping": ("clip / (norm + (REAL)1e-6)", "clip / (norm + (REAL)1)"),
}  # fmt: skip
#: Each is compiled anew, so that most are for when there is time.
SOME = 3


class Faulty(ShimKernels):
    """Kernels with a mistake in their source."""

    def __init__(self, edit: tuple[str, str]) -> None:
        super().__init__()
        self.edit = edit

    def get(self, file: str, function: str, *options: str) -> Any:
        names = ("many_train", "many_evaluate")
        module = compiled(file, names, options, (self.edit,))
        return lambda grid, block, arguments: module.launch(function, grid, block, arguments)


@pytest.mark.parametrize(
    "fault",
    [*list(FAULTS)[:SOME],
     *(pytest.param(fault, marks=pytest.mark.slow) for fault in list(FAULTS)[SOME:])],
)  # fmt: skip
def test_a_planted_mistake_is_caught(make: Made, fault: str) -> None:
    require_compiler()
    backend = CupyOnShim()
    backend.kernels = Faulty(FAULTS[fault])
    ours, theirs = ([make(seed, dtype=np.float64) for seed in (1, 2)] for _ in range(2))
    epochs(backend, ours, 1)
    for right in theirs:
        right.run_epoch()
    found, expected = ([everything(trainer) for trainer in side] for side in (ours, theirs))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("shape", "training", "why"),
    [
        ({}, {}, ""),
        ({}, {"optimizer": "sgd"}, "adam"),
        ({}, {"label_smoothing": 0.1}, "distributions"),
        ({}, {"typing_errors": 0.1}, "typing_errors"),
        ({"pooling": "mean"}, {}, "pooling mean"),
        ({"cell": "transformer", "num_heads": 2}, {}, "this transformer"),
        ({"cell": "gru", "reset": "before"}, {}, "this gru"),
        ({"num_layers": 2}, {}, "more than one layer"),
        ({"bidirectional": True}, {}, "two directions"),
        ({"hidden_layer": False}, {}, "no hidden layer"),
        ({"char_dropout": 0.1}, {}, "char_dropout"),
        ({"embedding_dropout": 0.1}, {}, "embedding_dropout"),
        ({"ngram_orders": (2,), "num_ngrams": 5}, {}, "n-grams"),
        ({"rnn_hidden_size": 300}, {}, "256 units"),
    ],
)
def test_what_cannot_be_one_of_many_is_named(
    make: Made, shape: Any, training: Any, why: str
) -> None:
    found = obstacle(make(1, "relu", shape=shape, **training))
    assert why in found if why else not found


def test_what_does_not_fit_into_memory_is_named(make: Made) -> None:
    trainer = make(1)
    assert not no_room(trainer, 64, None)
    assert not no_room(trainer, 64, (2**34, 2**34))
    assert "64 models need" in no_room(trainer, 64, (2**20, 2**34))
