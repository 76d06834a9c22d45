"""The weights of a file: as narrow as they may be there, and before a model takes them over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Array
from npnlp.errors import InputError, short
from npnlp.files.tensors import State
from npnlp.models import ClassifierConfig
from npnlp.models.surname_classifier import KEYS

#: A model may have ``ROOM`` times as many numbers as the tensors that are to fill it, or ``SMALL``:
#: which tensors are missing is said once it is built.
ROOM, SMALL = 4, 2**16


def rounded_to_half(values: Array, xp: Any) -> Array:
    """``values`` rounded to float16, in their dtype; as they are where one is beyond it."""
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16).astype(values.dtype)
    return rounded if xp.isfinite(rounded).all() else values


def narrowed(state: State) -> State:
    """``state`` with float16 weights and the smallest keys, where no number changes; else as it is.

    So a model whose weights were rounded (:func:`rounded_to_half`) takes half of the file.
    """
    weights = [tensor for name, tensor in state.items() if name != KEYS]
    with np.errstate(over="ignore"):
        if not all(np.array_equal(each.astype(np.float16), each) for each in weights):
            return state
    return {
        # The type that holds -max - 1 is signed, and holds all of the keys.
        name: tensor.astype(
            np.min_scalar_type(-int(tensor.max()) - 1) if name == KEYS else np.float16
        )
        for name, tensor in state.items()
    }


def checked_weights(state: Mapping[str, NDArray[Any]]) -> State:
    """``state`` as float32, but the keys of n-grams as int64 where they are whole numbers.

    Raises :class:`InputError` for a tensor that is not floating, or not finite in float32.
    """
    return {
        name: _keys(tensor) if name == KEYS else _weight(name, tensor)
        for name, tensor in state.items()
    }


def _keys(tensor: NDArray[Any]) -> NDArray[Any]:
    return tensor.astype(np.int64) if tensor.dtype.kind == "i" else tensor


def _weight(name: str, tensor: NDArray[Any]) -> NDArray[Any]:
    if tensor.dtype.kind != "f":
        raise InputError(
            f"tensor {short(name)} is of {tensor.dtype}, not of float16, float32 or float64; save "
            "model.float().state_dict()"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        value = tensor.astype(np.float32)
    if not np.isfinite(value).all():
        raise InputError(f"tensor {short(name)} holds numbers that are not finite in float32")
    return value


def require_room(config: ClassifierConfig, state: Mapping[str, NDArray[Any]]) -> None:
    """Raise :class:`InputError` where ``config`` asks for a far larger model than ``state`` fills.

    So a small file cannot make the program allocate much memory.
    """
    numbers = sum(tensor.size for tensor in state.values())
    if config.parameter_count > max(ROOM * numbers, SMALL):
        raise InputError(
            f"a configuration of {config.parameter_count:,} numbers, but its tensors hold "
            f"{numbers:,}"
        )
