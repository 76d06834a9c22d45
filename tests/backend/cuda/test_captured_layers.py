"""Layers in captured steps: how many launches they take, and that they compute what they should."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npnlp.backend import get_backend
from npnlp.models import ClassifierConfig
from npnlp.training.captured import captured_steps, obstacle
from npnlp.training.trainer import Trainer
from tests.support.capturing import CapturingBackend
from tests.support.shim import require_compiler
from tests.support.training import make_trainer, some_names

NUMPY = get_backend("numpy")
BATCH, NAMES = 8, 30  # three whole batches and one of 6
#: Nodes of a captured step of the default classifier, at most.
NODES = {"elman": 30, "gru": 31, "lstm": 32}
#: The layers that are captured, beside those of ``test_captured.py``.
VARIANTS: dict[str, dict[str, Any]] = {
    "attention, nothing dropped": {"pooling": "attention", "dropout": 0.0},
    "max and others, both ways": {"pooling": "max+last+attention", "bidirectional": True},
    "gru, reset before, two layers": {"cell": "gru", "reset": "before", "num_layers": 2},
    "transformer": {
        "cell": "transformer", "num_heads": 2, "rnn_dropout": 0.3,
        "pooling": "last+mean+max+attention",
    },
}  # fmt: skip
each_variant = pytest.mark.parametrize("variant", VARIANTS)
Made = Callable[..., Trainer]


@pytest.fixture
def make() -> Made:
    def made(
        backend: Any, shape: dict[str, Any], dtype: Any = np.float32, **training: Any
    ) -> Trainer:  # fmt: skip
        settings = {"num_epochs": 1, "batch_size": BATCH, "gradient_flow": False} | training
        return make_trainer(backend, shape, settings, dtype=dtype, split=some_names(NAMES)[1])

    return made


def graphs_of(trainer: Trainer) -> Any:
    assert trainer.captured is not None
    return trainer.captured.graphs


@pytest.mark.parametrize("cell", NODES)
def test_a_step_is_few_nodes(make: Made, cell: str) -> None:
    """With the sizes that the command line takes where it is told nothing."""
    require_compiler()
    defaults = ClassifierConfig(30, 18)
    shape = {
        "cell": cell, "embedding_size": defaults.embedding_size,
        "rnn_hidden_size": defaults.rnn_hidden_size,
    }  # fmt: skip
    with CapturingBackend().in_place() as backend:
        trainer = make(backend, shape)
        trainer.run_epoch()
        graphs = graphs_of(trainer)
        assert graphs._graphs
        assert max(len(graph.tape) for graph in graphs._graphs.values()) <= NODES[cell]


@each_variant
def test_replayed_steps_are_the_launched_ones_to_the_bit(
    device: Any, make: Made, variant: str
) -> None:
    """In another order of the threads, too."""
    captured, launched = (make(device, VARIANTS[variant]) for _ in range(2))
    captured.run_epoch()
    assert len(graphs_of(captured)) >= 1
    graphs = graphs_of(launched)
    graphs.run = lambda key, work: graphs._launched(work)
    if isinstance(device, CapturingBackend):
        device.kernels.seed = device.recurrent.seed = 5
    launched.run_epoch()
    assert len(graphs) == 0
    (ours, _), (theirs, _) = captured.state(), launched.state()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert np.isfinite(tensor).all(), name
        np.testing.assert_array_equal(tensor, theirs[name], err_msg=name)


@each_variant
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_loss_curve_is_numpys(device: Any, make: Made, variant: str, dtype: str) -> None:
    shape, bound = VARIANTS[variant], 1e-4 if dtype == "float32" else 1e-8
    ours, theirs = (make(backend, shape, np.dtype(dtype)) for backend in (device, NUMPY))
    row, expected = ours.run_epoch(), theirs.run_epoch()
    assert len(graphs_of(ours)) >= 1
    log, right = device.to_numpy(ours.log), theirs.log
    np.testing.assert_allclose(log[:, 0], right[:, 0], rtol=bound)
    np.testing.assert_allclose(log[:, 3:], right[:, 3:], rtol=20 * bound, atol=1e-9)
    np.testing.assert_allclose(row["val_loss"], expected["val_loss"], rtol=bound)


def test_attention_over_long_rows_is_launched_kernel_by_kernel(
    make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the layer takes a batch in parts, with a mask each."""
    require_compiler()
    monkeypatch.setattr("npnlp.training.captured.WHOLE", 1000)
    with CapturingBackend().in_place() as backend:
        trainer = make(backend, VARIANTS["transformer"])
        assert "goes in parts" in obstacle(trainer)
        with pytest.warns(RuntimeWarning, match="goes in parts"):
            assert captured_steps(trainer) is None
