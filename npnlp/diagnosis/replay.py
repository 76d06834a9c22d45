"""``replay.safetensors``: one step of training, whole, so that it can be repeated elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Backend, Random, get_backend
from npnlp.classifier.batches import Batch, batches
from npnlp.errors import InputError, short
from npnlp.files.tensors import load_tensors, save_tensors
from npnlp.layers import SoftmaxCrossEntropy
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.models.surname_classifier import KEYS
from npnlp.summary import summarized
from npnlp.text import SplitArrays
from npnlp.training.config import TrainingConfig
from npnlp.training.optimizers import Optimizer, make_optimizer
from npnlp.training.trainer import Trainer

KIND = "npnlp replay"
#: The splits a step can be of; on ``val`` it is a forward pass alone, dropout off.
STEP_SPLITS = ("train", "val")
ARRAYS = ("tokens", "lengths", "targets", "rows")
#: Plain values of a replay, and the types they may have.
PLAIN: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("learning_rate", (float, int)),
    ("steps", (int,)),
    ("epoch", (int,)),
    ("batch", (int,)),
    ("split", (str,)),
)


@summarized
@dataclass(frozen=True, eq=False)
class Replay:
    """Everything that a step is a function of; all arrays are on the host.

    ``weights`` and ``moments`` (the optimizer's) are those before the step. ``tokens (N,)`` holds
    the names of the batch one after another, ``lengths (B,)`` says where each ends, ``targets
    (B,)`` are the classes and ``rows (B,)`` the places in the split; ``names`` are the names, or
    none. ``epoch`` and ``batch`` count from 1, ``steps`` is how many updates went before.
    """

    weights: Mapping[str, NDArray[Any]]
    moments: Mapping[str, NDArray[Any]]
    class_weights: NDArray[Any] | None
    tokens: NDArray[np.int64]
    lengths: NDArray[np.int64]
    targets: NDArray[np.int64]
    rows: NDArray[np.int64]
    config: ClassifierConfig
    training: TrainingConfig
    learning_rate: float
    steps: int
    epoch: int
    batch: int
    split: str = "train"
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, trainer: Trainer, rows: NDArray[np.int64], split: str, batch: int) -> Replay:
        """The step that ``trainer`` takes, or would take, with these rows of ``split``."""
        data = trainer.train if split == "train" else trainer.val
        to_numpy = trainer.model.backend.to_numpy
        weights = trainer.criterion.class_weights
        ends = data.starts[rows] + data.lengths[rows]
        names = [data.tokens[a:b] for a, b in zip(data.starts[rows], ends, strict=True)]
        return cls(
            weights=trainer.model.state_dict(),
            moments=trainer.optimizer.state_dict(),
            class_weights=None if weights is None else to_numpy(weights).copy(),
            tokens=np.concatenate(names),
            lengths=data.lengths[rows],
            targets=data.targets[rows],
            rows=rows,
            config=trainer.model.config,
            training=trainer.config,
            learning_rate=trainer.optimizer.learning_rate,
            steps=trainer.optimizer.steps,
            epoch=trainer.progress.epoch + 1,
            batch=batch,
            split=split,
        )


class Rebuilt:
    """The model, loss, optimizer, batch and dropout stream of a replay, on a backend."""

    def __init__(self, replay: Replay, backend: Backend) -> None:
        dtype = next(value.dtype for name, value in replay.weights.items() if name != KEYS)
        self.model = SurnameClassifier(replay.config, backend=backend, dtype=dtype)
        self.model.load_state_dict(replay.weights)
        weights = replay.class_weights
        self.criterion = SoftmaxCrossEntropy(
            None if weights is None else backend.asarray(weights, dtype=dtype),
            backend=backend,
            dtype=dtype,
        )
        training = replay.training
        self.optimizer: Optimizer = make_optimizer(
            training.optimizer, self.model.flat, backend, replay.learning_rate,
            **training.optimizer_options,
        )  # fmt: skip
        self.optimizer.load_state_dict(replay.moments, replay.steps)
        starts = np.cumsum(replay.lengths) - replay.lengths
        arrays = SplitArrays(replay.tokens, starts, replay.lengths, replay.targets)
        count = len(replay.lengths)
        self.batch: Batch = next(batches(arrays, np.arange(count), count, backend))
        random = Random(training.seed, "training").at(replay.steps)
        self.random = random if replay.split == "train" else None
        self.rows: NDArray[np.int64] = replay.rows[self.batch.rows]


def write_replay(path: str | Path, replay: Replay) -> None:
    """Write a replay, atomically."""
    tensors = {f"weights.{name}": value for name, value in replay.weights.items()}
    tensors |= {f"moments.{name}": value for name, value in replay.moments.items()}
    tensors |= {f"batch.{name}": getattr(replay, name) for name in ARRAYS}
    if replay.class_weights is not None:
        tensors["class_weights"] = replay.class_weights
    values = {
        "config": replay.config.to_dict(),
        "training": asdict(replay.training),
        "names": list(replay.names),
        **{name: getattr(replay, name) for name, _ in PLAIN},
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
    def below(prefix: str) -> dict[str, NDArray[Any]]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    plain: dict[str, Any] = {name: values[name] for name, _ in PLAIN}
    arrays: dict[str, Any] = {name: tensors[f"batch.{name}"] for name in ARRAYS}
    for name, kinds in PLAIN:
        _require(type(plain[name]) in kinds, f"{name} is {short(plain[name])}")
    names = values["names"]
    _require(type(names) is list and all(type(n) is str for n in names), "names are no texts")
    return Replay(
        weights=below("weights."),
        moments=below("moments."),
        class_weights=tensors.get("class_weights"),
        **arrays,
        config=ClassifierConfig.from_dict(values["config"]),
        training=_training(values["training"]),
        names=tuple(names),
        **plain,
    )


def _training(values: Any) -> TrainingConfig:
    _require(isinstance(values, dict), "training is no table of fields")
    known = {field.name for field in fields(TrainingConfig)}
    unknown = next((name for name in values if name not in known), None)
    _require(unknown is None, f"training has an unknown field {short(unknown)}")
    for field in fields(TrainingConfig):
        value, kind = values[field.name], type(field.default)
        allowed = {float: (float, int), type(None): (float, int, type(None))}.get(kind, (kind,))
        _require(type(value) in allowed, f"{field.name} is {short(value)}")
    return TrainingConfig(**values)


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
        shares = replay.class_weights
        _require(
            shares.shape == (config.num_classes,) and shares.dtype.name in dtypes,
            f"class_weights are {shares.dtype} of shape {shares.shape}",
        )
        _require(
            np.isfinite(shares).all() and (shares >= 0).all(),
            "class_weights are not finite, or below 0",
        )
    for name, least in (("steps", 0), ("epoch", 1), ("batch", 1)):
        value = getattr(replay, name)
        _require(least <= value < 2**63, f"{name} is {short(value)}")
    rate = replay.learning_rate
    _require(0 < rate < math.inf, f"learning_rate is {rate}; it has to be finite and above 0")
    _require(replay.split in STEP_SPLITS, f"split is {short(replay.split)}")


def _require(condition: bool | np.bool_, message: str) -> None:
    if not condition:
        raise InputError(message)
