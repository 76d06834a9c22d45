"""Trainers on the stand-in: the memory of those that are dropped, and stacks of any depth."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Random, get_backend
from npnlp.backend.cuda import graphs
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SplitArrays
from npnlp.training.config import TrainingConfig
from npnlp.training.trainer import Trainer
from tests.support.capturing import CapturingBackend
from tests.support.shim import require_compiler

CONFIG = ClassifierConfig(9, 3, embedding_size=4, rnn_hidden_size=8)


@pytest.fixture
def device() -> Iterator[CapturingBackend]:
    require_compiler()
    with CapturingBackend().in_place() as backend:
        yield backend


def split_of(names: int, seed: int = 1) -> SplitArrays:
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 6, names)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    tokens = random.integers(1, 9, lengths.sum())
    return SplitArrays(tokens, starts, lengths, random.integers(0, 3, names))


def trained(backend: Any, epochs: int = 3, batch_size: int = 8, **shape: Any) -> Trainer:
    """Three whole batches in an epoch and a smaller one, the gradient flow of one recorded."""
    model = SurnameClassifier(replace(CONFIG, **shape), backend=backend, random=Random(1, "model"))
    settings = TrainingConfig(num_epochs=epochs, seed=1, batch_size=batch_size)
    trainer = Trainer(model, split_of(27), split_of(5, 2), settings)
    for _ in range(epochs):
        trainer.run_epoch()
    return trainer


def used(backend: CapturingBackend) -> int:
    """Bytes of the device, beside those that CuPy's default pool keeps for later arrays."""
    backend.xp.get_default_memory_pool().free_all_blocks()
    return backend.device.memory.used


def test_twenty_trainers_leave_no_memory_behind(device: CapturingBackend) -> None:
    """Without the collector of garbage; and the next one finds what the default pool has kept."""
    start, most = used(device), []
    gc.collect()
    gc.disable()
    try:
        for number in range(20):
            trainer = trained(device, 2 + (number == 0))
            assert trainer.captured is not None
            assert len(trainer.captured.graphs) >= 2
            most.append(device.device.memory.used)
            assert trainer.captured.graphs._pool.used_bytes() == 0  # between the steps
            del trainer
    finally:
        gc.enable()
    assert used(device) == start
    assert max(most) == most[0] > start


def test_without_its_finalizer_each_trainer_would_keep_memory(
    device: CapturingBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "_give_back", lambda graphs, pool: None)
    start, kept = used(device), []
    for _ in range(3):
        trained(device)
        gc.collect()
        kept.append(used(device) - start)
    assert 0 < kept[0] < kept[1] < kept[2]


@pytest.mark.parametrize(
    "shape",
    [
        {"num_layers": 9, "rnn_hidden_size": 4},
        {"num_layers": 5, "bidirectional": True, "rnn_hidden_size": 4},
        {"num_layers": 9, "cell": "lstm", "rnn_hidden_size": 4},
    ],
    ids=str,
)
def test_deep_stacks_are_captured(device: CapturingBackend, shape: dict[str, Any]) -> None:
    """More last states than CuPy stacks without a copy from the host."""
    ours, theirs = trained(device, **shape), trained(get_backend("numpy"), **shape)
    assert ours.captured is not None
    assert len(ours.captured.graphs) >= 2
    log = device.to_numpy(ours.log)
    assert np.isfinite(log).all()
    np.testing.assert_allclose(log[:, 0], theirs.log[:, 0], rtol=1e-4)
