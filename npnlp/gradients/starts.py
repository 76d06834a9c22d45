"""Recurrent layers at chosen first weights, and how far back a gradient gets in them, untrained.

The loss is linear in the last state, ``L = sum_b v_b . h_T`` with ``|v_b| = 1``: then
``|dL/dh_t|`` is what is left of the gradient at step t, and its bound starts at 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import Random, get_backend
from npnlp.gradients.flow import GradientFlow, gradient_flow
from npnlp.gradients.jacobians import Jacobians, jacobians
from npnlp.layers import Elman, Packing
from npnlp.layers.initialization import initialize
from npnlp.layers.recurrent import Recurrent, RecurrentTrace

Floats = NDArray[np.float64]

#: Sizes of the layers on random sequences.
INPUTS, HIDDEN = 8, 64


@dataclass(frozen=True)
class Start:
    """A nonlinearity, a name of ``INITIALIZATIONS``, and what ``W_hh`` is then multiplied by."""

    nonlinearity: str
    initialization: str
    scale: float = 1.0

    def set(self, layer: Recurrent, random: Random) -> None:
        """Give ``layer`` its first ``W_hh``."""
        initialize(layer, self.initialization, random)
        if self.scale != 1:
            layer.parameters["weight_hh_l0"] *= self.scale


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


def layer_at(start: Start, random: Random) -> Elman:
    """An untrained Elman layer in float64."""
    layer = Elman(INPUTS, HIDDEN, nonlinearity=start.nonlinearity, dtype=np.float64, random=random)
    start.set(layer, random.child("start"))
    return layer


def flow_on_random(layer: Recurrent, length: int, batch: int, random: Random) -> GradientFlow:
    """Gradient flow on ``batch`` sequences of normal numbers, with a gradient of length 1 on top.

    Leaves ``layer.grads`` as they were after :meth:`Layer.zero_grads`.
    """
    inputs = layer.parameters["weight_ih_l0"].shape[1]
    packing = Packing.of(np.full(batch, length), get_backend("numpy"))
    x = random.child("x").normal((packing.rows, inputs)).astype(layer.dtype)
    top = random.child("top").normal((batch, layer.hidden_size))
    top /= np.linalg.norm(top, axis=1)[:, None]
    _, cache = layer.forward(x, packing=packing)
    traces: list[RecurrentTrace] = []
    layer.backward((None, top.astype(layer.dtype)), cache, traces.append)
    layer.zero_grads()
    return gradient_flow(layer, traces[0])


def jacobians_on_random(layer: Recurrent, length: int, random: Random) -> Jacobians:
    """The Jacobians along one sequence of normal numbers."""
    inputs = layer.parameters["weight_ih_l0"].shape[1]
    return jacobians(layer, random.child("x").normal((length, inputs)))


def factor_rows(seen: Jacobians) -> list[tuple[str, int, float]]:
    """The two factors of the Jacobian apart: rows of factor, place and value.

    ``mean phi'`` and ``max phi'`` over the units by lag, and the singular values of ``W_hh`` by
    rank, from 1.
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
