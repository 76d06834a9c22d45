"""What the lab compares: encoders with their first values, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npnlp.backend import Random
from npnlp.lab.tasks import Task
from npnlp.layers.recurrent.initialization import initialize
from npnlp.layers.recurrent.recurrent import Recurrent
from npnlp.models.encoder import Encoder

#: The gate that keeps the old state, and the one that lets the new in where it is another.
KEEPS = {"forget": "input", "update": None}


@dataclass(frozen=True)
class Variant:
    """An encoder with its first values: what is compared.

    ``encoder`` are fields of :class:`npnlp.models.EncoderConfig`; ``initialization`` is that of
    ``W_hh``; with ``chrono`` the biases of the gates are told the length of the task
    (:func:`chrono`); ``learning_rate``, where given, goes before that of the lab.
    """

    encoder: Mapping[str, Any] = field(default_factory=dict)
    initialization: str = "default"
    chrono: bool = False
    learning_rate: float | None = None

    def initialize(self, encoder: Encoder, length: int, random: Random) -> None:
        """Set the first values of all recurrent layers of ``encoder``."""
        for cell in encoder.cells:
            own = random if cell.suffix == "_l0" else random.child(cell.suffix)
            initialize(cell, self.initialization, own)
            if self.chrono:
                chrono(cell, length, random.child(f"chrono{cell.suffix}"))

    def mismatch(self, task: Task) -> str | None:
        """Why this variant cannot learn ``task``; None where it can."""
        pooling = self.encoder.get("pooling", "last")
        if task.read == "each" and pooling != "last":
            return f"{task.name} is answered at each step, and {pooling} pooling gives one answer"
        return None


#: ``irnn`` is the identity with ReLU of Le, Jaitly and Hinton, 2015.
VARIANTS = {
    "tanh": Variant(),
    "orthogonal": Variant(initialization="orthogonal"),
    "relu": Variant({"nonlinearity": "relu"}),
    "irnn": Variant({"nonlinearity": "relu"}, initialization="identity"),
    "bidirectional": Variant({"bidirectional": True}),
    "lstm": Variant({"cell": "lstm", "forget_bias": 1.0}),
    "gru": Variant({"cell": "gru"}),
    "lstm-chrono": Variant({"cell": "lstm"}, chrono=True, learning_rate=3e-3),
    "gru-chrono": Variant({"cell": "gru"}, chrono=True, learning_rate=3e-3),
    "attention": Variant({"pooling": "attention"}),
    "transformer": Variant({"cell": "transformer"}),
}
#: With the settings of :class:`npnlp.lab.trial.LabConfig` it solves adding at T = 100.
DEFAULT_VARIANT = "irnn"


def chrono(layer: Recurrent, length: int, random: Random) -> None:
    """First biases by which the units of a gated ``layer`` remember for 1 to T - 1 steps.

    ``b_keep = log(u)`` with u uniform in ``[1, T - 1]``, a number a unit, so that the gate begins
    at ``u / (1 + u)`` and ``1/e`` of a memory is left after about u steps; in an LSTM
    ``b_input = -b_forget``. A layer without gates is left as it is. Source: Tallec and Ollivier,
    "Can recurrent neural networks warp time?", 2018.
    """
    backend = layer.backend
    times = random.uniform((layer.hidden_size,), 1.0, max(length - 1.0, 2.0))
    for keep, new in KEEPS.items():
        if keep not in layer.gates:
            continue
        for gate, sign in ((keep, 1.0), (new, -1.0)):
            if gate is None:
                continue
            place = layer.gates.index(gate) * layer.hidden_size
            rows = slice(place, place + layer.hidden_size)
            layer.weight("bias_ih")[rows] = backend.asarray(sign * np.log(times), dtype=layer.dtype)
            layer.weight("bias_hh")[rows] = 0
