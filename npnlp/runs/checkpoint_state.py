"""The state of a trainer as a checkpoint holds it, and what it has to be to go on from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.classifier.flow import FIRST_WIDTH, WIDTH
from npnlp.errors import InputError, short
from npnlp.training.history import History
from npnlp.training.trainer import Trainer

#: Columns of the history, before a norm for each parameter (:meth:`Trainer.run_epoch`).
HISTORY = (
    "epoch", "learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy",
    "val_macro_f1", "grad_norm", "grad_norm_clipped", "grad_norm_max", "seconds",
    "names_per_second",
)  # fmt: skip
#: Numbers that are infinite until the first epoch is done.
WITH_BEST = ("schedule", "stopper")
INFINITE = tuple(f"state.{name}.best" for name in WITH_BEST)


def require_state(
    trainer: Trainer, tensors: Mapping[str, NDArray[Any]], state: Mapping[str, Any]
) -> None:
    """Raise :class:`InputError`, naming tensor or field, where ``trainer`` cannot go on from it."""
    own_tensors, own_values = trainer.state()
    missed = {f"missed.{name}": name for name in trainer.optimizer.tables}
    for name in sorted((own_tensors.keys() ^ tensors.keys()) - missed.keys()):
        raise InputError(
            f"tensor {name!r} {'is missing' if name in own_tensors else 'does not belong here'}"
        )
    for name in own_tensors.keys() - missed.keys():
        _require_tensor(name, tensors[name], own_tensors[name])
    _require_like("state", state, own_values)
    _require_progress(trainer, state)
    for name in missed.keys() & tensors.keys():
        rows = len(trainer.model.parameters[missed[name]])
        _require_missed(name, tensors[name], rows, state["progress"]["batch"])
    _require_history(trainer, state["progress"])
    _require_machines(state["progress"]["computed_on"])
    _require_flow(trainer, tensors["flow"], state["progress"]["epoch"])


def _require_tensor(name: str, found: NDArray[Any], own: NDArray[Any]) -> None:
    shape = (len(found), WIDTH) if name == "flow" and found.ndim else own.shape
    if found.shape != shape or found.dtype != own.dtype:
        raise InputError(
            f"tensor {name!r} is {found.dtype} of shape {found.shape}, not {own.dtype} of {shape}"
        )
    if own.dtype.kind != "f" or name == "flow":
        return
    weights = name.startswith(("model.", "best."))
    if not np.isfinite(found).all() if weights else np.isnan(found).any():
        raise InputError(f"tensor {name!r} holds numbers that are not finite")


def _require_missed(name: str, steps: NDArray[Any], rows: int, most: int) -> None:
    """Whole numbers of steps of this epoch that each row of a table is behind by."""
    right = steps.dtype == np.int64 and steps.shape == (rows,)
    if not right or steps.min() < 0 or steps.max() > most:
        raise InputError(f"tensor {name!r} has to hold 0 to {most} for each of {rows} rows")


def _require_like(name: str, found: Any, own: Any) -> None:
    """The same fields, and of the same types; numbers of at least 0, or -1 for none."""
    if isinstance(own, dict):
        if not isinstance(found, dict) or found.keys() != own.keys():
            raise InputError(f"field {name!r} is {short(found)}; it has to hold {', '.join(own)}")
        for key, value in own.items():
            _require_like(f"{name}.{key}", found[key], value)
        return
    right = type(found) is type(own) or (type(own) is float and type(found) is int)
    if right and type(own) in (int, float):
        right = found >= -1 and (math.isfinite(found) or name in INFINITE)
    if not right:
        raise InputError(f"field {name!r} is {short(found)}")


def _require_progress(trainer: Trainer, state: Mapping[str, Any]) -> None:
    progress = state["progress"]
    epoch, batch = progress["epoch"], progress["batch"]
    for name, value, low, high in (
        ("steps", state["steps"], 0, 2**63),
        ("learning_rate", state["learning_rate"], 0, math.inf),
        ("schedule.learning_rate", state["schedule"]["learning_rate"], 0, math.inf),
        ("progress.epoch", epoch, 0, 2**63),
        ("progress.batch", batch, 0, trainer.batches_per_epoch + 1),
        ("progress.best_epoch", progress["best_epoch"], -1, max(epoch, 0)),
    ):
        if not low <= value < high:
            raise InputError(f"field 'state.{name}' is {short(value)}")


def _require_history(trainer: Trainer, progress: Mapping[str, Any]) -> None:
    history: History = progress["history"]
    columns = {*HISTORY, *(f"grad_norm.{name}" for name in trainer.model.flat.parameters)}
    if len(history) > progress["epoch"]:
        raise InputError(
            f"field 'history' has {len(history)} rows after {short(progress['epoch'])} epochs"
        )
    if history.columns and set(history.columns) != columns:
        raise InputError("field 'history' has other columns")


def _require_machines(noted: list[Any]) -> None:
    for place, machine in enumerate(noted):
        if not isinstance(machine, dict) or not all(
            type(value) in (int, str) for value in machine.values()
        ):
            raise InputError(f"field 'state.progress.computed_on': {place} is {short(machine)}")


def _require_flow(trainer: Trainer, flow: NDArray[Any], epoch: int) -> None:
    """Each row begins with whole numbers: the epoch, the number of the layer, the lag."""
    limits = (epoch + 1, len(trainer.flow_layers), 2**31)
    for column, limit in enumerate(limits):
        numbers = flow[:, column]
        if not ((numbers >= 0) & (numbers < limit) & (numbers == np.floor(numbers))).all():
            raise InputError(f"tensor 'flow': column {column} has to be 0 to {limit - 1}")


def _with_later_columns(flow: NDArray[Any]) -> NDArray[Any]:
    """Rows of flow from before some columns were recorded, with NaN there."""
    if flow.ndim != 2 or flow.shape[1] != FIRST_WIDTH:
        return flow
    later = np.full((len(flow), WIDTH - FIRST_WIDTH), np.nan)
    return np.hstack([flow, later], dtype=flow.dtype, casting="unsafe")


def plain_state(trainer: Trainer) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """:meth:`Trainer.state` as tensors and plain values: its history is a tensor, too.

    A best loss that is infinite still is None: JSON has no infinity.
    """
    tensors, state = trainer.state()
    for name in WITH_BEST:
        if not math.isfinite(state[name]["best"]):
            state[name]["best"] = None
    tensors["history"], state["history"] = state["progress"].pop("history").to_tensor()
    return tensors, state


def with_history(
    tensors: Mapping[str, NDArray[Any]], state: Any
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Undo :func:`plain_state`."""
    if not isinstance(state, dict) or not isinstance(state.get("progress"), dict):
        raise InputError(f"field 'state' is {short(state)}")
    if "history" not in tensors or "history" not in state:
        raise InputError("tensor or field 'history' is missing")
    try:
        history = History.from_tensor(tensors["history"], state["history"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"field 'history': {error}") from error
    rest = {name: tensor for name, tensor in tensors.items() if name != "history"}
    if "flow" in rest:
        rest["flow"] = _with_later_columns(rest["flow"])
    values = {name: value for name, value in state.items() if name != "history"}
    for name in WITH_BEST:
        part = values.get(name)
        if isinstance(part, dict) and part.get("best", 0) is None:
            values[name] = part | {"best": math.inf}
    return rest, values | {"progress": state["progress"] | {"history": history}}
