"""Gradient flow by head: where each attention head of the last step looks, and what comes back.

For head m at each packed row of a lag (steps back from each sequence's own last one):

    (1)  A_{T,t}        the weight that the sequence's own last query gives to the key of that step
    (2)  |dL/do_t|      the gradient that reaches the head's output at that step

(1) sums to 1 over the lags of a sequence: one step of attention has a way to every lag, where a
recurrence has a product of as many Jacobians. In the last layer of a model that reads the last
state alone, (2) is 0 for every lag but 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.gradients.shares import lags_of, mean_by_lag
from npnlp.layers.attention.attention import AttentionTrace
from npnlp.summary import summarized

Floats = NDArray[np.float64]

#: The columns of a row for each head and lag, after the number of the head.
HEAD_COLUMNS = ("lag", "attention", "head_grad")


@summarized
@dataclass(frozen=True)
class HeadFlow:
    """What one backward pass of an attention layer shows, a row for each packed row, on the host.

    ``layer`` counts the layers of an encoder from 0; ``lags (N,)``; ``attention`` and ``head_grad
    (N, heads)`` are (1) and (2).
    """

    layer: int
    lags: NDArray[np.int64]
    attention: Floats
    head_grad: Floats

    def table(self) -> Floats:
        """Of each head a row a lag, with ``HEAD_COLUMNS``, means: ``(heads, K, 3)``."""
        means = [mean_by_lag(values, self.lags) for values in (self.attention, self.head_grad)]
        lags = np.broadcast_to(np.arange(len(means[0]))[:, None], means[0].shape)
        return np.stack([lags, *means], axis=2).swapaxes(0, 1)

    def rows(self) -> list[dict[str, Any]]:
        """The table as rows of ``layer``, ``head`` and ``HEAD_COLUMNS``, head after head."""
        return [
            {"layer": self.layer, "head": head}
            | dict(zip(HEAD_COLUMNS, (int(row[0]), *row[1:]), strict=True))
            for head, table in enumerate(self.table().tolist())
            for row in table
        ]


def head_flow(trace: AttentionTrace) -> HeadFlow:
    """What ``trace``, kept by ``backward(..., probe=...)`` of an attention layer, shows."""
    cache, packing = trace.cache, trace.cache.packing
    host, lengths = packing.backend.to_numpy, packing.lengths
    # The last query of each sequence, in the caller's order as the weights are: (B, heads, T).
    own_last = host(cache.weights)[np.arange(len(lengths)), :, lengths - 1]
    return HeadFlow(
        layer=trace.layer,
        lags=lags_of(packing),
        attention=own_last[packing.sequences, :, packing.steps].astype(np.float64),
        head_grad=np.linalg.norm(host(trace.d_heads).astype(np.float64), axis=2),
    )


def merge(flows: Sequence[HeadFlow]) -> HeadFlow:
    """Several batches of one loss and one layer as one."""

    def joined(name: str) -> Any:
        return np.concatenate([getattr(flow, name) for flow in flows])

    return HeadFlow(flows[0].layer, joined("lags"), joined("attention"), joined("head_grad"))
