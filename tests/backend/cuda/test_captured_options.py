"""Captured steps with every option of training and of the model: NumPy's numbers, repeatable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from npnlp.backend import get_backend
from npnlp.errors import DeviceError
from tests.support.capturing import CapturingBackend
from tests.support.shim import require_compiler
from tests.support.training import (
    equal,
    everything,
    launched_one_by_one,
    make_trainer,
)

NUMPY = get_backend("numpy")
#: Model and training.
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sgd": ({}, {"optimizer": "sgd", "learning_rate": 0.1, "label_smoothing": 0.1}),
    "momentum": ({}, {"optimizer": "sgd", "momentum": 0.9, "clip_norm": 0.3,
                      "learning_rate": 0.05, "logit_adjustment": 0.5}),
    "merged": ({"hidden_layer": False}, {"merge_repeats": True, "consistency": 0.7}),
    "bag": ({"ngram_orders": (1, 2, 3, 4), "ngram_size": 40, "ngram_min_count": 2,
             "ngram_dropout": 0.5}, {"weight_decay": 0.1}),
    "misspelled": ({"ngram_orders": (1, 3), "ngram_size": 7, "cell": "lstm"},
                   {"typing_errors": 0.5, "bucket": 2}),
}  # fmt: skip
each = pytest.mark.parametrize("name", OPTIONS)


@pytest.fixture(params=["shim", pytest.param("cupy", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "shim":
        require_compiler()
        with CapturingBackend().in_place() as backend:
            yield backend
        return
    try:
        on_device = get_backend("cupy")
    except DeviceError as error:
        pytest.skip(str(error))
    yield on_device


def made(backend: Any, name: str, dtype: Any = np.float32, **more: Any) -> Any:
    shape, training = OPTIONS[name]
    return make_trainer(backend, shape, training | more, dtype=dtype)


@each
def test_replayed_steps_are_the_launched_ones_to_the_bit(device: Any, name: str) -> None:
    captured, launched = made(device, name), launched_one_by_one(made(device, name))
    for _ in range(2):
        captured.run_epoch()
        launched.run_epoch()
    equal(everything(captured), everything(launched))
    assert captured.captured is not None
    assert len(captured.captured.graphs) >= 1


@each
@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 1e-4), (np.float64, 1e-8)])
def test_the_loss_curve_is_numpys(device: Any, name: str, dtype: Any, bound: float) -> None:
    ours, theirs = (made(b, name, dtype, gradient_flow=False) for b in (device, NUMPY))
    for _ in range(2):
        ours.run_epoch()
        theirs.run_epoch()
        log, right = device.to_numpy(ours.log), theirs.log
        np.testing.assert_allclose(log[:, 0], right[:, 0], rtol=bound)
        np.testing.assert_allclose(log[:, 1:3], right[:, 1:3], rtol=bound)
        np.testing.assert_allclose(log[:, 3:], right[:, 3:], rtol=20 * bound, atol=1e-9)
    assert ours.captured is not None
    assert len(ours.captured.graphs) >= 1
