"""Gradient flow by gate: what each gate of a cell does at each lag, and what gradient it gets.

For gate g with sum ``a_g`` and nonlinearity ``phi_g``, at each packed row of a lag (steps back from
each sequence's own last one):

    (1)  mean y_g = phi_g(a_g)                     how far it is open
    (2)  mean phi_g'(a_g) / max phi_g'             how far from saturated: 4 sigma (1 - sigma) for a
                                                   gate, 1 - tanh^2 for a candidate
    (3)  |sum over the rows of delta_g v^T|        its share of dL/dW_g; v = h_{t-1} but for the
                                                   candidate of :class:`GRUResetBefore`
    (4)  mean |dL/da_g|                            the gradient that reaches its sum

A forget gate (LSTM) or an update gate (GRU) whose (1) is near 1 hands the gradient on; one whose
(2) is near 0 does so whatever it is told, for (4) is then near 0, too. An Elman layer is shown as
one gate, ``hidden``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.gradients.flow import GradientFlow
from npnlp.gradients.shares import lags_of, mean_by_lag, shares_by_lag, sum_shares
from npnlp.gradients.steps import gate_outputs, relative_slopes, steps_of
from npnlp.layers.recurrent.memory import RecurrentTrace
from npnlp.summary import summarized

Floats = NDArray[np.float64]

#: The columns of a row for each gate and lag, after the name of the gate.
GATE_COLUMNS = ("lag", "activation", "slope", "weight_hh_share", "delta_norm")


@summarized
@dataclass(frozen=True)
class GateFlow:
    """What one backward pass shows of each of G ``gates``, a row for each packed row, on the host.

    ``lags (N,)``; ``activation``, ``slope`` and ``delta_norm (N, G)`` are (1), (2) and (4), means
    over the units, and over the rows not yet; ``shares (K, G H, H)`` is (3) for lags 0 to K-1.
    """

    gates: tuple[str, ...]
    lags: NDArray[np.int64]
    activation: Floats
    slope: Floats
    delta_norm: Floats
    shares: Floats

    def table(self) -> Floats:
        """Of each gate a row a lag, with ``GATE_COLUMNS``: ``(G, K, 5)``."""
        longest, count = len(self.shares), len(self.gates)
        squares = (self.shares.astype(np.float64) ** 2).reshape(longest, count, -1).sum(axis=2)
        columns = [
            np.broadcast_to(np.arange(longest)[:, None], (longest, count)),
            mean_by_lag(self.activation, self.lags),
            mean_by_lag(self.slope, self.lags),
            np.sqrt(squares),
            mean_by_lag(self.delta_norm, self.lags),
        ]
        return np.stack(columns, axis=2).swapaxes(0, 1)

    def rows(self) -> list[dict[str, Any]]:
        """The table as rows of ``gate`` and ``GATE_COLUMNS``, gate after gate."""
        return [
            {"gate": gate} | dict(zip(GATE_COLUMNS, (int(row[0]), *row[1:]), strict=True))
            for gate, table in zip(self.gates, self.table().tolist(), strict=True)
            for row in table
        ]


def gate_flow(trace: RecurrentTrace, flow: GradientFlow | None = None) -> GateFlow:
    """What ``trace``, kept by ``layer.backward(..., probe=...)``, shows of the gates.

    ``flow``, the :func:`gradient_flow` of the same trace, saves making the shares once more.
    """
    layer, cache = trace.layer, trace.cache
    steps, lags = steps_of(layer, cache), lags_of(cache.packing)
    deltas = layer.backend.to_numpy(trace.delta).astype(np.float64)
    return GateFlow(
        gates=layer.gates,
        lags=lags,
        activation=_mean_unit(gate_outputs(layer, cache)),
        slope=_mean_unit(relative_slopes(layer, cache, steps)),
        delta_norm=np.linalg.norm(deltas.reshape(len(deltas), len(layer.gates), -1), axis=2),
        shares=shares_by_lag(trace, lags) if flow is None else flow.shares,
    )


def _mean_unit(values: NDArray[Any]) -> Floats:
    """The mean over the units of ``(G, N, H)``: ``(N, G)``."""
    means: Floats = values.mean(axis=2, dtype=np.float64).T
    return means


def merge(flows: Sequence[GateFlow]) -> GateFlow:
    """Several batches of one loss and one layer as one: rows together, shares added."""

    def joined(name: str) -> Any:
        return np.concatenate([getattr(flow, name) for flow in flows])

    return GateFlow(
        gates=flows[0].gates,
        lags=joined("lags"),
        activation=joined("activation"),
        slope=joined("slope"),
        delta_norm=joined("delta_norm"),
        shares=sum_shares([flow.shares for flow in flows]),
    )
