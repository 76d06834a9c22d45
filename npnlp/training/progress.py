"""Where a run stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from npnlp.training.history import History


@dataclass
class Progress:
    """Where a run stands; plain values, so that a checkpoint can hold them.

    ``computed_on`` says from which epoch and batch on which backend and library computed.
    """

    epoch: int = 0
    batch: int = 0
    stopped_early: bool = False
    best_epoch: int = -1
    history: History = field(default_factory=History)
    computed_on: list[dict[str, Any]] = field(default_factory=list)
