"""The passes of this project, on a backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from npnlp.backend import Backend, Random
from npnlp.backend.operations import LookedUp
from npnlp.classifier.batches import batches
from npnlp.errors import InputError
from npnlp.layers import CELLS, Packing
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SplitArrays
from npnlp.training.config import TrainingConfig
from npnlp.training.trainer import Trainer
from passes.gpu_case import CLASSES, EMBEDDING, VOCABULARY, Case, Inside, Way, packed_tokens

#: Batches of an epoch of captured steps: so rarely is anything copied to the device.
EPOCH = 256


def our_way(case: Case, seed: int, backend: Backend) -> Way:
    """Forward, forward and backward, and the step of the trainer, on arrays on the device."""
    split = case.split(seed)
    layer = our_layer(case, seed, backend)
    packing = Packing.of(split.lengths, backend)
    tokens = backend.asarray(packed_tokens(split)[0])
    rows = LookedUp(backend.asarray(table_of(seed)), tokens)
    ones = backend.zeros((case.batch, case.hidden), np.float32) + 1

    def forward() -> Any:
        return layer.forward(rows, packing=packing)

    def both() -> Any:
        _, cache = forward()
        layer.zero_grads()
        return layer.backward((None, ones), cache)

    trainer = our_trainer(case, seed, backend, split)
    (batch,) = batches(split, np.arange(case.batch), case.batch, backend)
    return {"forward": forward, "both": both, "step": lambda: trainer.step(batch)}


def our_captured_way(case: Case, seed: int, backend: Backend) -> Way:
    """The step of the trainer as training takes it: one launch of a captured graph.

    Raises :class:`InputError` where the steps of such a model are not captured.
    """
    split = case.split(seed)
    starts, lengths, targets = (
        np.tile(array, EPOCH) for array in (split.starts, split.lengths, split.targets)
    )
    many = SplitArrays(split.tokens, starts, lengths, targets)
    trainer = our_trainer(case, seed, backend, many)
    steps, order = trainer.captured, np.arange(len(many))
    if steps is None:
        raise InputError("the steps of this model are not captured")

    def step() -> None:
        if trainer.progress.batch % EPOCH == 0:
            trainer.progress.batch = 0
            steps.begin(order)
        steps.step()
        trainer.progress.batch += 1

    return {"step": Inside(step, steps.graphs.in_use)}


def our_layer(case: Case, seed: int, backend: Backend) -> Any:
    """The layer, with weights from the seed alone."""
    return CELLS[case.cell](EMBEDDING, case.hidden, backend=backend, random=Random(seed, "gpu"))


def table_of(seed: int) -> Any:
    """The embeddings of the layer's passes."""
    drawn = Random(seed, "gpu").child("table").normal((VOCABULARY, EMBEDDING))
    return drawn.astype(np.float32)


def our_trainer(case: Case, seed: int, backend: Backend, split: SplitArrays) -> Trainer:
    """A trainer of the classifier on ``split``, that records no gradient flow."""
    config = ClassifierConfig(VOCABULARY, CLASSES, EMBEDDING, case.hidden, cell=case.cell)
    model = SurnameClassifier(config, backend=backend, random=Random(seed, "model"))
    settings = TrainingConfig(batch_size=case.batch, seed=seed, gradient_flow=False)
    return Trainer(model, split, split, settings)
