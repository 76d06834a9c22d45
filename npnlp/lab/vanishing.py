"""What training makes of a start: gradient flow before and after; clipping where it explodes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from npnlp.backend import Random, get_backend
from npnlp.classifier.building import make_classifier, make_criterion
from npnlp.classifier.evaluation import evaluate
from npnlp.classifier.flow import flow_of
from npnlp.diagnosis.finding import examine
from npnlp.gradients.flow import GradientFlow
from npnlp.lab.starts import HIDDEN, INPUTS, Start
from npnlp.layers import MeanSquaredError, Packing
from npnlp.models import SequenceModel
from npnlp.models.sequence_model import SequenceConfig
from npnlp.text import SurnameDataset
from npnlp.training.clipping import clip_grad_norm, clipped
from npnlp.training.config import TrainingConfig
from npnlp.training.optimizers import SGD
from npnlp.training.trainer import Trainer


def trainer_at(dataset: SurnameDataset, start: Start, config: TrainingConfig) -> Trainer:
    """A trainer whose surname model begins at ``start``; the rest is as ``npnlp train`` has it."""
    settings = {"cell": start.cell, "nonlinearity": start.nonlinearity}
    model = make_classifier(dataset, settings, get_backend("numpy"), config.seed)
    start.set(model.encoder.cells[0], Random(config.seed, "model").child("start"))
    return Trainer(model, dataset.arrays("train"), dataset.arrays("val"), config, examine=examine)


def before_and_after(
    dataset: SurnameDataset, start: Start, config: TrainingConfig
) -> tuple[GradientFlow, GradientFlow, float, Trainer]:
    """Train; the gradient flow on ``test`` before and with the best weights, and their accuracy."""
    trainer = trainer_at(dataset, start, config)
    model, test = trainer.model, dataset.arrays("test")
    criterion = make_criterion(model)
    (before,) = flow_of(model, test, criterion).values()
    while not trainer.finished:
        trainer.run_epoch()
    trainer.finish()
    (after,) = flow_of(model, test, criterion).values()
    accuracy = evaluate(model, test, criterion).metrics["accuracy"]
    return before, after, accuracy, trainer


def clipping_run(
    start: Start,
    length: int,
    steps: int,
    max_norm: float | None,
    random: Random,
    batch: int = 32,
    learning_rate: float = 0.01,
) -> list[dict[str, Any]]:
    """SGD on random sequences with random targets: a row a step, until something is not finite.

    Each row has the loss, and the norm of the gradient before and after clipping to
    ``max_norm`` (None clips nothing).
    """
    backend = get_backend("numpy")
    shape = SequenceConfig(INPUTS, 1, HIDDEN, nonlinearity=start.nonlinearity)
    model = SequenceModel(shape, dtype=np.float64, random=random.child("model"))
    start.set(model.encoder.cells[0], random.child("start"))
    criterion = MeanSquaredError(dtype=np.float64)
    optimizer = SGD(model.flat, backend, learning_rate)
    packing = Packing.of(np.full(batch, length), backend)
    rows: list[dict[str, Any]] = []
    for step in range(steps):
        at = random.at(step)
        x, targets = at.child("x").normal((packing.rows, INPUTS)), at.child("t").normal((batch, 1))
        y, cache = model.forward(x, packing=packing)
        loss, errors = criterion.forward(y, targets)
        model.zero_grads()
        model.backward(criterion.backward(1.0, errors), cache)
        norm = float(clip_grad_norm(model.flat.grads, max_norm, backend))
        if not math.isfinite(float(loss) + norm):
            break
        after = float(clipped(np.array(norm), max_norm))
        rows.append({"step": step + 1, "loss": float(loss), "norm": norm, "norm_clipped": after})
        optimizer.step()
    return rows
