"""The temperature is in the weights: what is exported has the probabilities of the classifier."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npnlp.backend import get_backend
from npnlp.classifier.classifier import Classifier
from npnlp.lab.comparison import entrant_of
from npnlp.layers import softmax
from npnlp.runs.run import Run
from npnlp.text import SurnameDataset, own_table_path
from npnlp.training.config import TrainingConfig
from npnlp.training.recipes import RECIPES
from tests.support.tables import run_main

pytestmark = pytest.mark.peers
BOUND = 1e-5


@pytest.fixture(scope="module", params=["default", "light"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two epochs, whose temperature is far from 1."""
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(own_table_path())
    entrant = entrant_of(request.param, RECIPES.get(request.param, {}))
    config = TrainingConfig(**{**entrant.training, "num_epochs": 2})
    made = Run.make(dataset, config, dict(entrant.shape), get_backend("numpy"),
                    tmp_path_factory.mktemp("run"))  # fmt: skip
    made.train()
    assert made.temperature < 0.9
    return made


def names_of(run: Run) -> list[str]:
    """Names of test that are read as they are written, and whole."""
    return [name for name in run.dataset.frames["test"]["surname"][:200] if name.isalpha()]


def padded(run: Run, names: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    vectorizer = run.dataset.get_vectorizer()
    flat, lengths = vectorizer.vectorize_many(names)
    tokens = np.full((len(names), lengths.max()), vectorizer.char_vocab.mask_index)
    tokens[np.arange(lengths.max()) < lengths[:, None]] = flat
    return tokens, lengths


def probabilities(run: Run, names: list[str]) -> NDArray[Any]:
    """Those of ``Classifier.predict``, in the order of the classes."""
    labels = run.classifier.vectorizer.nationality_vocab.tokens
    found = [dict(each.top) for each in Classifier.load(run.model_file).predict(names, top_k=99)]
    return np.array([[each[label] for label in labels] for each in found])


def check(run: Run, names: list[str], exported: NDArray[Any]) -> None:
    """The same as now, and not the same as before calibration."""
    after = probabilities(run, names)
    np.testing.assert_allclose(softmax(exported, np), after, rtol=0, atol=BOUND)
    uncalibrated = copy.deepcopy(run.classifier)
    for value in uncalibrated.model.fc2.parameters.values():
        value *= run.temperature
    before = uncalibrated.probabilities(names)
    assert np.abs(softmax(exported, np) - before).max() > 1000 * BOUND
    np.testing.assert_array_equal(before.argmax(axis=1), after.argmax(axis=1))


def test_onnxruntime_has_the_calibrated_probabilities(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from npnlp.exchange.onnx_run import onnx_logits

    path, names = tmp_path / "model.onnx", names_of(run)
    assert run_main("export", "--save-dir", run.save_dir, "--format", "onnx", "--output", path) == 0
    check(run, names, onnx_logits(path, *padded(run, names)))


def test_pytorch_has_the_calibrated_probabilities(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from safetensors.numpy import load_file

    from npnlp.exchange.torch_model import torch_pass

    path, names = tmp_path / "state_dict.safetensors", names_of(run)
    assert run_main("export", "--save-dir", run.save_dir, "--output", path) == 0
    tokens, lengths = padded(run, names)
    logits, _, _ = torch_pass(run.trainer.model.config, load_file(path), tokens, lengths,
                              np.zeros(len(names), dtype=np.int64))  # fmt: skip
    check(run, names, logits)
