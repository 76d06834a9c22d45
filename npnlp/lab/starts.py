"""Recurrent layers at chosen first weights, and how far back a gradient gets in them, untrained.

The loss is linear in the last state, ``L = sum_b v_b . h_T`` with ``|v_b| = 1``: then
``|dL/dh_t|`` is what is left of the gradient at step t, and its bound starts at 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Random, get_backend
from npnlp.gradients.flow import GradientFlow, gradient_flow
from npnlp.gradients.jacobians import Jacobians, jacobians
from npnlp.layers import CELLS, Packing
from npnlp.layers.recurrent.initialization import initialize
from npnlp.layers.recurrent.memory import RecurrentTrace
from npnlp.layers.recurrent.recurrent import Recurrent

Floats = NDArray[np.float64]

#: Sizes of the layers on random sequences.
INPUTS, HIDDEN = 8, 64


@dataclass(frozen=True)
class Start:
    """A nonlinearity, a name of ``INITIALIZATIONS``, and what ``W_hh`` is then multiplied by.

    ``cell`` is a name of ``CELLS``; ``nonlinearity`` is for Elman only, and ``forget_bias`` for the
    LSTM only.
    """

    nonlinearity: str
    initialization: str
    scale: float = 1.0
    cell: str = "elman"
    forget_bias: float | None = None

    @property
    def cell_options(self) -> dict[str, Any]:
        """The options of the cell's own."""
        if self.cell == "elman":
            return {"nonlinearity": self.nonlinearity}
        return {} if self.forget_bias is None else {"forget_bias": self.forget_bias}

    def set(self, layer: Recurrent, random: Random) -> None:
        """Give ``layer`` its first ``W_hh``."""
        initialize(layer, self.initialization, random)
        if self.scale != 1:
            layer.weight("weight_hh")[...] *= self.scale


#: What is compared, by name. With ReLU half of the units pass nothing, so that a ``W_hh`` of
#: independent entries explodes only where it is larger still: its largest singular value is 3.5.
STARTS = {
    "default, tanh": Start("tanh", "default"),
    "small, tanh": Start("tanh", "small"),
    "unit, tanh": Start("tanh", "unit"),
    "large, tanh": Start("tanh", "large"),
    "orthogonal, tanh": Start("tanh", "orthogonal"),
    "identity, ReLU": Start("relu", "identity"),
    "exploding, ReLU": Start("relu", "large", scale=1.75),
}

#: The same question to the cells that were made to answer it, at their own first weights. The tanh
#: of their candidate is no choice.
CELL_STARTS = {
    "Elman": Start("tanh", "default"),
    "LSTM": Start("tanh", "default", cell="lstm"),
    "LSTM, forget bias 1": Start("tanh", "default", cell="lstm", forget_bias=1.0),
    "GRU": Start("tanh", "default", cell="gru"),
}


def layer_at(start: Start, random: Random) -> Recurrent:
    """An untrained layer in float64."""
    make, options = CELLS[start.cell], start.cell_options
    layer = make(INPUTS, HIDDEN, dtype=np.float64, random=random, **options)
    start.set(layer, random.child("start"))
    return layer


def flow_on_random(layer: Recurrent, length: int, batch: int, random: Random) -> GradientFlow:
    """Gradient flow on ``batch`` sequences of normal numbers, with a gradient of length 1 on top.

    Leaves ``layer.grads`` as they were after :meth:`Layer.zero_grads`.
    """
    return gradient_flow(trace_on_random(layer, length, batch, random))


def trace_on_random(layer: Recurrent, length: int, batch: int, random: Random) -> RecurrentTrace:
    """The trace that :func:`flow_on_random` looks at, for other views of the same pass."""
    inputs = layer.input_size
    packing = Packing.of(np.full(batch, length), get_backend("numpy"))
    x = random.child("x").normal((packing.rows, inputs)).astype(layer.dtype)
    top = random.child("top").normal((batch, layer.hidden_size))
    top /= np.linalg.norm(top, axis=1)[:, None]
    _, cache = layer.forward(x, packing=packing)
    traces: list[RecurrentTrace] = []
    layer.backward((None, top.astype(layer.dtype)), cache, traces.append)
    layer.zero_grads()
    return traces[0]


def jacobians_on_random(layer: Recurrent, length: int, random: Random) -> Jacobians:
    """The Jacobians along one sequence of normal numbers."""
    inputs = layer.input_size
    return jacobians(layer, random.child("x").normal((length, inputs)))


def factor_rows(seen: Jacobians) -> list[tuple[str, int, float]]:
    """The two factors of the Jacobian apart: rows of factor, place and value.

    ``mean phi'`` and ``max phi'`` over the units (of all gates) by lag, and the singular values of
    ``W_hh`` by rank, from 1.
    """
    slopes, sigma = seen.factors()
    columns: Sequence[tuple[str, int, Floats]] = (
        ("mean phi'", 0, seen.derivatives.mean(axis=1)[::-1]),
        ("max phi'", 0, slopes[::-1]),
        ("singular value of W_hh", 1, sigma),
    )
    return [
        (name, place, float(value))
        for name, first, values in columns
        for place, value in enumerate(values, start=first)
    ]


def singular_value_rows(seen: Jacobians) -> list[dict[str, float]]:
    """A row a lag: the largest, middle and smallest singular value of ``dh_T/dh_k``, the bound."""
    return [
        {
            "lag": lag,
            "largest": float(values[0]),
            "median": float(np.median(values)),
            "smallest": float(values[-1]),
            "bound": float(bound),
        }
        for lag, (values, bound) in enumerate(
            zip(seen.singular_values(), seen.bound(), strict=True)
        )
    ]
