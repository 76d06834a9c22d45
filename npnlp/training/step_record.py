"""One step of training as a record: all that has to be known to take it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Backend
from npnlp.models import ClassifierConfig
from npnlp.summary import summarized
from npnlp.training.config import TrainingConfig


@summarized
@dataclass(frozen=True, eq=False)
class Replay:
    """Everything that a step is a function of; all arrays are on the host.

    ``weights`` and ``moments`` (the optimizer's) are those before the step. ``tokens (N,)`` holds
    the names of the batch one after another, ``lengths (B,)`` says where each ends, ``targets
    (B,)`` are the classes and ``rows (B,)`` the places in the split; ``names`` are the names, or
    none. ``epoch`` and ``batch`` count from 1, ``steps`` is how many updates went before. A step on
    ``split`` "val" is only a forward pass, dropout off.

    Where targets are distributions, ``log_prior (C,)`` are the logarithms of the classes'
    frequencies; with merged repeats ``shares (B, C)`` and ``row_weights (B,)`` are those of
    :class:`SplitArrays`.
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
    shares: NDArray[np.float64] | None = None
    row_weights: NDArray[np.float64] | None = None
    log_prior: NDArray[np.float64] | None = None


#: Looks into a step that training doubts, on its backend, and is told the numbers that training
#: saw, by name. Raises :class:`DivergenceError` where one is not finite; after a false alarm it
#: returns, and training goes on.
Examine: TypeAlias = Callable[[Replay, Backend, Mapping[str, float]], None]
