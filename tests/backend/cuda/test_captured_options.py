"""Captured steps with every option of training and of the model: NumPy's numbers, repeatable."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from npnlp.backend import get_backend
from npnlp.errors import DivergenceError
from npnlp.models import ClassifierConfig
from npnlp.text import SplitArrays
from npnlp.training.recipes import RECIPES
from npnlp.training.trainer import Trainer
from tests.support.capturing import CapturingBackend
from tests.support.shim import require_compiler
from tests.support.training import (
    epoch_order,
    equal,
    everything,
    launched_one_by_one,
    make_trainer,
    some_names,
    stop_after,
)

NUMPY, BATCH = get_backend("numpy"), 8
FIELDS = {field.name for field in fields(ClassifierConfig)}


def small(recipe: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A recipe with all its parts, at small sizes."""
    of_both = RECIPES[recipe] | {"rnn_hidden_size": 8, "embedding_size": 6, "ngram_size": 9}
    shape = {name: value for name, value in of_both.items() if name in FIELDS}
    training = {name: value for name, value in of_both.items() if name not in FIELDS}
    return shape, training | {"batch_size": BATCH, "num_epochs": 3, "bucket": 2}


#: Model and training.
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sgd": ({"nonlinearity": "relu", "dropout": 0.2},
            {"optimizer": "sgd", "learning_rate": 0.1, "label_smoothing": 0.1,
             "class_weights": "balanced"}),
    "momentum": ({}, {"optimizer": "sgd", "momentum": 0.9, "clip_norm": 0.3,
                      "learning_rate": 0.05, "logit_adjustment": 0.5}),
    "merged": ({"hidden_layer": False}, {"merge_repeats": True, "consistency": 0.7}),
    "misspelled": ({"ngram_orders": (1, 3), "ngram_size": 7, "cell": "lstm", "forget_bias": 1.0,
                    "num_layers": 2, "rnn_dropout": 0.3, "variational": True},
                   {"typing_errors": 0.5, "bucket": 2}),
    "light": small("light"),
    "wide": small("wide"),
}  # fmt: skip
each = pytest.mark.parametrize("name", OPTIONS)


def made(backend: Any, name: str, dtype: Any = np.float32, **more: Any) -> Trainer:
    """Of two whole batches and one of 2; of "merged" one is stepped as on a CPU, for the probe."""
    shape, training = OPTIONS[name]
    settings = training | {"batch_size": BATCH, "gradient_flow": name == "merged"} | more
    return make_trainer(backend, shape, settings, dtype=dtype, split=few_names())


def few_names() -> SplitArrays:
    return some_names(2 * BATCH + 2)[1]


def same_curve(ours: Trainer, theirs: Trainer, bound: float) -> None:
    log, right = ours.model.backend.to_numpy(ours.log), theirs.log
    assert np.isfinite(right).all()
    assert (right[:, 0] > 0).all()
    np.testing.assert_allclose(log[:, :3], right[:, :3], rtol=bound)  # losses, weights, correct
    np.testing.assert_allclose(log[:, 3:], right[:, 3:], rtol=20 * bound, atol=1e-9)  # norms


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "light"])
def test_replayed_steps_are_the_launched_ones_to_the_bit_and_numpys(device: Any, name: str) -> None:
    captured, theirs = made(device, name), made(NUMPY, name)
    launched = launched_one_by_one(made(device, name))
    for _ in range(2):
        captured.run_epoch()
        launched.run_epoch()
        theirs.run_epoch()
        same_curve(captured, theirs, 1e-4)
    equal(everything(captured), everything(launched))
    assert captured.captured is not None
    assert len(captured.captured.graphs) >= 1


@each
def test_in_double_precision_nothing_is_rounding(device: Any, name: str) -> None:
    ours, theirs = (made(b, name, np.float64) for b in (device, NUMPY))
    ours.run_epoch()
    theirs.run_epoch()
    same_curve(ours, theirs, 1e-8)
    for parameter, value in ours.model.state_dict().items():
        expected = theirs.model.state_dict()[parameter]
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-9)
    assert ours.captured is not None


@pytest.mark.parametrize(
    "name", ["merged", "misspelled", pytest.param("wide", marks=pytest.mark.slow)]
)
def test_a_resumed_run_has_the_same_bits_in_any_order_of_threads(device: Any, name: str) -> None:
    whole, begun, resumed = (made(device, name) for _ in range(3))
    for _ in range(2):
        whole.run_epoch()
    if isinstance(device, CapturingBackend):
        device.kernels.seed = device.recurrent.seed = 5
    begun.run_epoch()
    stop_after(begun, 1)
    resumed.load_state(*begun.state())
    resumed.run_epoch()
    equal(everything(resumed), everything(whole))


@pytest.mark.parametrize("name", ["sgd", "momentum", "misspelled"])
def test_a_number_that_is_not_finite_is_found_where_numpy_finds_it(device: Any, name: str) -> None:
    """Same step, same message. A row of the second batch weighs infinitely much."""
    trainer, split = made(NUMPY, name), few_names()
    weights = np.ones(len(split))
    weights[epoch_order(trainer)[BATCH + 3]] = np.inf
    shape, training = OPTIONS[name]
    found = []
    for backend in (device, NUMPY):
        settings = training | {"batch_size": BATCH}
        trainer = make_trainer(backend, shape, settings, split=replace(split, weights=weights))
        with pytest.raises(DivergenceError) as raised:
            trainer.run_epoch()
        assert (trainer.progress.batch, trainer.optimizer.steps) == (1, 1)
        replay = raised.value.replay
        found.append((str(raised.value), replay.batch, replay.rows.tolist()))
    assert found[0] == found[1]


def test_every_epoch_has_its_own_names_on_the_device(device: Any) -> None:
    trainer = made(device, "misspelled")
    assert trainer.captured is not None
    resident, seen = trainer.captured.batches.resident, []
    for _ in range(2):
        trainer.run_epoch()
        split = trainer.splits["train"]
        tokens = device.to_numpy(resident.tokens)[: len(split.tokens)]
        np.testing.assert_array_equal(tokens, split.tokens)
        np.testing.assert_array_equal(device.to_numpy(resident.lengths), split.lengths)
        seen.append(split.tokens.tolist())
    assert seen[0] != seen[1]


def test_an_epoch_of_other_names_reads_one_flag_at_its_end() -> None:
    """Its names, their n-grams, order and rates are copied before the first step."""
    require_compiler()
    with CapturingBackend().in_place() as backend:
        device, trainer = backend.device, made(backend, "misspelled")
        assert trainer.captured is not None
        trainer.run_epoch()
        trainer.splits["train"] = trainer._with_errors()
        device.reads.clear()
        before, seen = device.uploads, []
        trainer.captured.run(
            epoch_order(trainer), lambda: seen.append((len(device.reads), device.uploads))
        )
        assert seen == [(0, before + 7)] * 3
        assert device.reads == ["asnumpy"]
