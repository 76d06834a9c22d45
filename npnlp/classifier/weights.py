"""The weights of a file, before a model takes them over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError, short
from npnlp.files.tensors import State
from npnlp.models import ClassifierConfig
from npnlp.models.surname_classifier import KEYS

#: A model may have ``ROOM`` times as many numbers as the tensors that are to fill it, or ``SMALL``:
#: which tensors are missing is said once it is built.
ROOM, SMALL = 4, 2**16


def checked_weights(state: Mapping[str, NDArray[Any]]) -> State:
    """``state`` as float32, but the keys of n-grams as they are.

    Raises :class:`InputError` for a tensor that is not floating, or not finite in float32.
    """
    return {
        name: tensor if name == KEYS else _weight(name, tensor) for name, tensor in state.items()
    }


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
