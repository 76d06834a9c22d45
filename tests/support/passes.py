"""Passes of every cell, there and back, with each sequence unrolled beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Backend, Random
from npnlp.layers import Elman, Packing
from npnlp.layers.recurrent.gru import GRU, GRUResetBefore
from npnlp.layers.recurrent.initialization import initialize
from npnlp.layers.recurrent.lstm import LSTM
from npnlp.layers.recurrent.memory import RecurrentTrace
from npnlp.layers.recurrent.recurrent import Recurrent
from tests.support.reference import Floats, draw, host, pack, packed_order
from tests.support.unrolled import CANDIDATES, Step, Unrolled

D, H = 2, 3
LENGTHS = [4, 1, 5, 4]
CELLS: dict[str, type[Recurrent]] = {
    "elman": Elman, "lstm": LSTM, "gru": GRU, "before": GRUResetBefore,
}  # fmt: skip
KINDS = ["default", "large", "orthogonal", "exploding", "carried"]

each_cell = pytest.mark.parametrize("cell", CELLS)
each_gated = pytest.mark.parametrize("cell", ["lstm", "gru", "before"])
each_kind = pytest.mark.parametrize("kind", KINDS)
each_through = pytest.mark.parametrize("through", ["last", "all", "both"])
with_initial = pytest.mark.parametrize("given", [True, False], ids=["initial", "no initial"])


def layer_of(
    cell: str, kind: str = "default", dtype: Any = np.float64, backend: Backend | None = None,
    units: int = H,
) -> Recurrent:  # fmt: skip
    options: Any = {"dtype": dtype, "random": Random(3), "backend": backend}
    layer = CELLS[cell](D, units, **options)
    if kind == "exploding":
        initialize(layer, "large", Random(3, "start"))
        layer.weight("weight_hh")[...] *= 4
    elif kind == "carried":  # gates wide open
        layer.weight("bias_ih")[...] += 3
    else:
        initialize(layer, kind, Random(3, "start"))
    return layer


@dataclass
class Pass:
    """A batch through a layer and back, and each of its sequences unrolled."""

    layer: Recurrent
    cell: str
    given: bool = False
    through: str = "last"
    seed: int = 0
    lengths: tuple[int, ...] = tuple(LENGTHS)

    def __post_init__(self) -> None:
        layer, batch, units = self.layer, len(self.lengths), self.layer.hidden_size
        padded, dtype = (max(self.lengths), batch), self.layer.dtype
        self.x = draw(self.seed, *padded, D).astype(dtype)
        self.initial = [
            draw(self.seed + 1 + s, batch, units).astype(dtype) * self.given
            for s in range(len(layer.states))
        ]
        self.d_hidden = draw(self.seed + 5, *padded, units).astype(dtype) * (self.through != "last")
        self.d_last = [
            draw(self.seed + 6 + s, batch, units).astype(dtype) * (self.through != "all")
            for s in range(len(layer.states))
        ]
        self.packing = Packing.of(np.array(self.lengths), layer.backend)

    @property
    def places(self) -> list[tuple[int, int]]:
        return packed_order(self.lengths)

    def back(self) -> tuple[RecurrentTrace, dict[str, Floats]]:
        """What the probe saw, and the gradients of the parameters."""
        layer, send = self.layer, self.layer.backend.asarray
        states = [send(state) for state in self.initial] if self.given else []
        _, cache = layer.forward(send(pack(self.x, self.lengths)), *states, packing=self.packing)
        d_hidden = None if self.through == "last" else send(pack(self.d_hidden, self.lengths))
        d_last = [None if self.through == "all" else send(state) for state in self.d_last]
        traces: list[RecurrentTrace] = []
        layer.zero_grads()
        layer.backward((d_hidden, *d_last), cache, traces.append)
        return traces[0], host(layer.backend, layer.grads)

    def unrolled(self, b: int) -> Unrolled:
        weights = {
            name.removesuffix("_l0"): value
            for name, value in host(self.layer.backend, self.layer.parameters).items()
        }
        length = self.lengths[b]
        return Unrolled(
            self.cell, self.x[:length, b], [state[b] for state in self.initial], weights,
            self.d_hidden[:length, b], [state[b] for state in self.d_last],
        )  # fmt: skip

    def steps(self) -> list[Step]:
        """The unrolled step of each packed row."""
        runs = [self.unrolled(b).run()[1] for b in range(len(self.lengths))]
        return [runs[b][t] for t, b in self.places]

    def lag(self, t: int, b: int) -> int:
        return self.lengths[b] - 1 - t


def slopes(step: Step, gate: str) -> Floats:
    """Each unit's slope over the largest, by complex step of the gate's own nonlinearity."""
    a = step.sums[gate].real + 1e-20j
    if gate in CANDIDATES:
        return np.asarray(np.tanh(a).imag / 1e-20)
    return np.asarray((1 / (1 + np.exp(-a))).imag / 1e-20 / 0.25)


@cache
def case(cell: str, given: bool, through: str) -> tuple[Pass, RecurrentTrace, dict[str, Floats]]:
    made = Pass(layer_of(cell, "large"), cell, given, through)
    return made, *made.back()
