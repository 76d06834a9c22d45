"""Gradient flow by attention head: the attention of the last step, and the gradient of each step.

For each head, averaged over the packed rows of each lag (steps back from a sequence's last step):

    (1)  A_{T,t}        the attention weight of step t for the query of the last step T
    (2)  |dL/do_t|      the gradient that reaches the head's output at step t

(1) sums to 1 over the lags of a sequence: attention reaches every lag in one step, where a
recurrence needs a product of Jacobians. In the last layer of a model that uses the last state only,
(2) is 0 for every lag but 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.gradients.shares import lags_of, mean_by_lag
from npnlp.layers.attention.attention import AttentionTrace
from npnlp.layers.attention.parts import last_weights
from npnlp.summary import summarized

Floats = NDArray[np.float64]

#: The columns of the table, a row for each head and lag.
HEAD_COLUMNS = ("lag", "attention", "head_grad")


@summarized
@dataclass(frozen=True)
class HeadFlow:
    """(1) and (2) of one backward pass of an attention layer, on the host.

    ``layer``, the index of the layer in an encoder; ``lags (N,)`` of the packed rows; ``attention``
    (1) and ``head_grad`` (2), both ``(N, heads)``.
    """

    layer: int
    lags: NDArray[np.int64]
    attention: Floats
    head_grad: Floats

    def table(self) -> Floats:
        """Means by head and lag, with the columns ``HEAD_COLUMNS``: ``(heads, K, 3)``."""
        means = [mean_by_lag(values, self.lags) for values in (self.attention, self.head_grad)]
        lags = np.broadcast_to(np.arange(len(means[0]))[:, None], means[0].shape)
        return np.stack([lags, *means], axis=2).swapaxes(0, 1)

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the table as dictionaries of ``layer``, ``head`` and ``HEAD_COLUMNS``."""
        return [
            {"layer": self.layer, "head": head}
            | dict(zip(HEAD_COLUMNS, (int(row[0]), *row[1:]), strict=True))
            for head, table in enumerate(self.table().tolist())
            for row in table
        ]


def head_flow(trace: AttentionTrace) -> HeadFlow:
    """The flow in what an attention layer's ``backward(..., probe=...)`` gave to its probe."""
    cache, packing = trace.cache, trace.cache.packing
    host = packing.backend.to_numpy
    attention = np.empty(trace.d_heads.shape[:2])
    for part, heads in zip(cache.parts, cache.heads, strict=True):
        own = part.packing
        # The weights of each sequence's last query, in the caller's order: (B, heads, T).
        own_last = host(last_weights(heads, own))
        rows = part.rows if isinstance(part.rows, slice) else host(part.rows)
        attention[rows] = own_last[own.sequences, :, own.steps]
    return HeadFlow(
        layer=trace.layer,
        lags=lags_of(packing),
        attention=attention,
        head_grad=np.linalg.norm(host(trace.d_heads).astype(np.float64), axis=2),
    )


def merge(flows: Sequence[HeadFlow]) -> HeadFlow:
    """The flows of several batches of one layer as one."""

    def joined(name: str) -> Any:
        return np.concatenate([getattr(flow, name) for flow in flows])

    return HeadFlow(flows[0].layer, joined("lags"), joined("attention"), joined("head_grad"))
