"""From one row per sequence ``(B, ...)``, in the caller's order, to packed rows ``(N, ...)``, and
back.

:func:`spread` and :func:`total` are transposes: each is the other's backward pass.
"""

from __future__ import annotations

from npnlp.backend import Array
from npnlp.layers.packing import Packing


def spread(rows: Array, packing: Packing) -> Array:
    """``out[n] = rows[b]``, b being the sequence of packed row n: ``(N, ...)``."""
    return rows.take(packing.backend.asarray(packing.sequences), axis=0)


def total(data: Array, packing: Packing) -> Array:
    """``out[b] = sum of data[n]`` over the packed rows n of sequence b: ``(B, D)``."""
    sequences = packing.backend.asarray(packing.sequences)
    return packing.backend.segment_sum(data, sequences, len(packing.lengths))
