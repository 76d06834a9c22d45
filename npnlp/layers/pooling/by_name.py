"""Poolings by name: from the hidden states of a sequence to one vector of it.

    last       y = h_last                  what a recurrent layer has come to
    mean       y = (h_1 + ... + h_L) / L
    max        y_d = max_t h_td            of each feature
    attention  y = sum_t alpha_t h_t       learned weights

Each looks at the sequence's own L steps only. Their gradients differ in the way back from the loss
to step t: through the whole recurrence (last), or also straight to it (the others).
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
