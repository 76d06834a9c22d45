"""Poolings by name: from the hidden states of a sequence to one vector.

    last       y = h_last                  the state after the last step
    mean       y = (h_1 + ... + h_L) / L
    max        y_d = max_t h_td            of each feature
    attention  y = sum_t alpha_t h_t       learned weights

Each uses only the L steps of the sequence itself. The gradient of "last" reaches step t through the
recurrence only; that of the others also reaches it directly.
"""

from __future__ import annotations

from npnlp.layers.pooling.attention import AttentionPooling
from npnlp.layers.pooling.plain import LastPooling, MaxPooling, MeanPooling, Pooling

POOLINGS: dict[str, type[Pooling]] = {
    "last": LastPooling,
    "mean": MeanPooling,
    "max": MaxPooling,
    "attention": AttentionPooling,
}
