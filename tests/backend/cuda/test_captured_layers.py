"""Layers in captured steps: how many launches they take, and that they compute what they should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random, get_backend
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SplitArrays
from npnlp.training.config import TrainingConfig
from npnlp.training.trainer import Trainer
from tests.backend.cuda.test_captured import (
    data,  # noqa: F401  a fixture
    device,  # noqa: F401  a fixture
    equal,
    everything,
    launched_one_by_one,
)
from tests.support.capturing import CapturingBackend
from tests.support.shim import require_compiler

NUMPY = get_backend("numpy")
#: Nodes of a captured step of the default classifier, at most.
NODES = {"elman": 30, "gru": 31, "lstm": 32}
#: The models whose layers are captured, beside those of ``test_captured.py``.
VARIANTS: dict[str, dict[str, Any]] = {
    "no dropout": {"dropout": 0.0},
    "attention": {"pooling": "attention"},
    "max and others": {"pooling": "max+last+attention", "cell": "lstm", "bidirectional": True},
    "gru, reset before": {"cell": "gru", "reset": "before", "num_layers": 2},
    "transformer": {
        "cell": "transformer",
        "num_heads": 2,
        "num_layers": 2,
        "rnn_dropout": 0.3,
        "pooling": "last+mean+max+attention",
    },
    "gru, several layers": {"cell": "gru", "num_layers": 2, "bidirectional": True},
}
each_variant = pytest.mark.parametrize("variant", VARIANTS)
Made = Callable[..., Trainer]


@pytest.fixture
def make(data: tuple[ClassifierConfig, SplitArrays]) -> Made:  # noqa: F811
    def made(
        backend: Any, shape: dict[str, Any], weights: Any = None, dtype: Any = np.float32,
        **training: Any,
    ) -> Trainer:  # fmt: skip
        config, random = replace(data[0], **shape), Random(1, "model")
        model = SurnameClassifier(config, backend=backend, dtype=dtype, random=random)
        settings = TrainingConfig(
            **({"num_epochs": 2, "seed": 1, "batch_size": 16, "gradient_flow": False} | training)
        )
        return Trainer(model, data[1], data[1], settings, weights)

    return made


@pytest.mark.parametrize("cell", NODES)
def test_a_step_is_few_nodes(make: Made, cell: str) -> None:
    """With the sizes and the batch that the command line takes, where it is told nothing."""
    require_compiler()
    defaults = ClassifierConfig(30, 18)
    shape = {
        "cell": cell, "embedding_size": defaults.embedding_size,
        "rnn_hidden_size": defaults.rnn_hidden_size,
    }  # fmt: skip
    with CapturingBackend().in_place() as backend:
        trainer = make(backend, shape, batch_size=TrainingConfig().batch_size)
        for _ in range(2):
            trainer.run_epoch()
        assert trainer.captured is not None
        graphs = trainer.captured.graphs._graphs.values()
        assert graphs
        assert max(len(graph.tape) for graph in graphs) <= NODES[cell]


@each_variant
def test_replayed_steps_are_the_launched_ones_to_the_bit(
    device: Any, make: Made, variant: str  # noqa: F811
) -> None:  # fmt: skip
    shape = VARIANTS[variant]
    captured, launched = make(device, shape), launched_one_by_one(make(device, shape))
    for _ in range(2):
        captured.run_epoch()
        launched.run_epoch()
    equal(everything(captured), everything(launched))
    assert captured.captured is not None
    assert len(captured.captured.graphs) >= 2


@each_variant
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_loss_curve_is_numpys(
    device: Any, make: Made, variant: str, dtype: str  # noqa: F811
) -> None:  # fmt: skip
    shape, bound = VARIANTS[variant], 1e-4 if dtype == "float32" else 1e-8
    ours, theirs = (make(backend, shape, dtype=np.dtype(dtype)) for backend in (device, NUMPY))
    assert ours.captured is not None
    for _ in range(2):
        row, expected = ours.run_epoch(), theirs.run_epoch()
        log, right = device.to_numpy(ours.log), theirs.log
        assert np.isfinite(log).all()
        np.testing.assert_allclose(log[:, 0], right[:, 0], rtol=bound)
        np.testing.assert_allclose(log[:, 3:], right[:, 3:], rtol=20 * bound, atol=1e-9)
        np.testing.assert_allclose(row["val_loss"], expected["val_loss"], rtol=bound)


@each_variant
def test_two_runs_have_the_same_bits(device: Any, make: Made, variant: str) -> None:  # noqa: F811
    first, second = (make(device, VARIANTS[variant]) for _ in range(2))
    first.run_epoch()
    if isinstance(device, CapturingBackend):
        device.kernels.seed = device.recurrent.seed = 5  # another order of the threads
    second.run_epoch()
    equal(everything(first), everything(second))
