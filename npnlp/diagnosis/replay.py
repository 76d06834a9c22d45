"""``replay.safetensors``: one step of training, so that it can be repeated elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Backend, Random, get_backend
from npnlp.checks import from_fields, require_positive, require_whole
from npnlp.classifier.batches import Batch, batches
from npnlp.classifier.building import make_criterion
from npnlp.errors import InputError, require_known
from npnlp.files.tensors import below, load_tensors, save_tensors
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.models.surname_classifier import KEYS
from npnlp.text import SplitArrays
from npnlp.training.config import TrainingConfig
from npnlp.training.objective import SoftObjective, make_objective
from npnlp.training.optimizers import Optimizer, make_optimizer
from npnlp.training.step_record import Replay

KIND = "npnlp replay"
#: The splits a step can be of; on ``val`` it is only a forward pass, dropout off.
STEP_SPLITS = ("train", "val")
ARRAYS = ("tokens", "lengths", "targets", "rows")
#: Tensors that are there where the objective has them.
OPTIONAL = ("class_weights", "shares", "row_weights", "log_prior")
#: Plain values of a replay.
PLAIN = ("learning_rate", "steps", "epoch", "batch", "split")


class Rebuilt:
    """The model, loss, optimizer, batch and dropout stream of a replay, on a backend."""

    def __init__(self, replay: Replay, backend: Backend) -> None:
        dtype = next(value.dtype for name, value in replay.weights.items() if name != KEYS)
        self.model = SurnameClassifier(replay.config, backend=backend, dtype=dtype)
        self.model.load_state_dict(replay.weights)
        self.criterion = make_criterion(self.model, replay.class_weights)
        training = replay.training
        self.optimizer: Optimizer = make_optimizer(
            training.optimizer, self.model.flat, backend, replay.learning_rate,
            **training.optimizer_options,
        )  # fmt: skip
        self.optimizer.load_state_dict(replay.moments, replay.steps)
        starts = np.cumsum(replay.lengths) - replay.lengths
        arrays = SplitArrays(
            replay.tokens, starts, replay.lengths, replay.targets, replay.shares, replay.row_weights
        )
        count = len(replay.lengths)
        self.batch: Batch = next(batches(arrays, np.arange(count), count, backend))
        random = Random(training.seed, "training").at(replay.steps)
        self.random = random if replay.split == "train" else None
        #: Of a step of training whose targets are distributions, or whose rows have weights.
        self.objective: SoftObjective | None = None
        if replay.split == "train" and replay.log_prior is not None:
            weighted = replay.row_weights is not None
            made = make_objective(self.model, self.criterion, training, replay.log_prior, weighted)
            self.objective = cast(SoftObjective, made)
        self.rows: NDArray[np.int64] = replay.rows[self.batch.rows]


def write_replay(path: str | Path, replay: Replay) -> None:
    """Write a replay, atomically."""
    tensors = {f"weights.{name}": value for name, value in replay.weights.items()}
    tensors |= {f"moments.{name}": value for name, value in replay.moments.items()}
    tensors |= {f"batch.{name}": getattr(replay, name) for name in ARRAYS}
    tensors |= {name: value for name in OPTIONAL if (value := getattr(replay, name)) is not None}
    values = {
        "config": replay.config.to_dict(),
        "training": asdict(replay.training),
        "names": list(replay.names),
        **{name: getattr(replay, name) for name in PLAIN},
    }
    save_tensors(path, KIND, tensors, values)


def read_replay(path: str | Path) -> Replay:
    """Undo :func:`write_replay`; raises :class:`InputError` naming the file and what is wrong."""
    tensors, values = load_tensors(path, KIND)
    try:
        replay = _assemble(tensors, values)
        _check(replay)
        Rebuilt(replay, get_backend("numpy"))
    except KeyError as error:
        raise InputError(f"{path}: damaged replay: {error} is missing") from error
    except InputError as error:
        raise InputError(f"{path}: damaged replay: {error}") from error
    return replay


def _assemble(tensors: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> Replay:
    plain: dict[str, Any] = {name: values[name] for name in PLAIN}
    arrays: dict[str, Any] = {name: tensors[f"batch.{name}"] for name in ARRAYS}
    arrays |= {name: tensors.get(name) for name in OPTIONAL}
    names = values["names"]
    _require(type(names) is list and all(type(n) is str for n in names), "names are no texts")
    return Replay(
        weights=below(tensors, "weights."),
        moments=below(tensors, "moments."),
        **arrays,
        config=ClassifierConfig.from_dict(values["config"]),
        training=from_fields(TrainingConfig, values["training"], "training"),
        names=tuple(names),
        **plain,
    )


def _check(replay: Replay) -> None:
    """Raise :class:`InputError` where the parts do not fit each other."""
    config, arrays = replay.config, {name: getattr(replay, name) for name in ARRAYS}
    for name, array in arrays.items():
        _require(array.dtype == np.int64 and array.ndim == 1, f"{name} are no whole numbers (n,)")
    size = len(replay.lengths)
    _require(size > 0 and replay.lengths.min() > 0, "lengths have to be above 0")
    _require(replay.lengths.max() <= len(replay.tokens), "a length exceeds the tokens")
    _require(replay.lengths.sum() == len(replay.tokens), "lengths do not sum to the tokens")
    _require(len(replay.targets) == len(replay.rows) == size, "targets or rows for other lengths")
    _require(len(replay.names) in (0, size), "names for another number of rows")
    for name, limit in (("tokens", config.num_embeddings), ("targets", config.num_classes)):
        low, high = arrays[name].min(), arrays[name].max()
        _require(0 <= low <= high < limit, f"{name} outside 0 to {limit - 1}")
    learned = [array for name, array in replay.weights.items() if name != KEYS]
    dtypes = {array.dtype.name for array in (*learned, *replay.moments.values())}
    _require(dtypes in ({"float32"}, {"float64"}), f"weights of dtypes {sorted(dtypes)}")
    count = sum(array.size for array in learned)
    _require(count == config.parameter_count, "weights of another configuration")
    for name, array in replay.moments.items():
        _require(array.shape == (count,), f"moment {name!r} has shape {array.shape}")
    if replay.class_weights is not None:
        own = replay.class_weights
        _require(
            own.shape == (config.num_classes,) and own.dtype.name in dtypes,
            f"class_weights are {own.dtype} of shape {own.shape}",
        )
        _require(
            np.isfinite(own).all() and (own >= 0).all(), "class_weights are not finite, or below 0"
        )
    _check_objective(replay, size)
    for name, least in (("steps", 0), ("epoch", 1), ("batch", 1)):
        require_whole(name, getattr(replay, name), least)
    require_positive("learning_rate", replay.learning_rate)
    require_known("split", replay.split, STEP_SPLITS)


def _check_objective(replay: Replay, size: int) -> None:
    classes = replay.config.num_classes
    shapes = {"shares": (size, classes), "row_weights": (size,), "log_prior": (classes,)}
    for name, shape in shapes.items():
        array = getattr(replay, name)
        if array is not None:
            right = array.shape == shape and array.dtype == np.float64 and np.isfinite(array).all()
            _require(right, f"{name} are no finite float64 of shape {shape}")
    soft, merged = replay.training.soft, replay.training.merge_repeats
    shares, weights, prior = (getattr(replay, name) is not None for name in shapes)
    if replay.split == "train":
        _require(prior == (soft or weights), "log_prior goes with targets that are distributions")
        _require(shares == merged and weights >= merged, "shares go with merged repeats")


def _require(condition: bool | np.bool_, message: str) -> None:
    if not condition:
        raise InputError(message)
