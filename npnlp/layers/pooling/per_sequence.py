"""Between a row a sequence, ``(B, ...)`` in the caller's order, and packed rows ``(N, ...)``.

:func:`spread` and :func:`total` are each other's transpose: each undoes the other in a backward
pass.
"""

from __future__ import annotations

from npnlp.backend import Array
from npnlp.backend.operations import Rows
from npnlp.errors import InputError
from npnlp.layers.packing import Packing


def spread(rows: Array, packing: Packing) -> Array:
    """``out[n] = rows[b]`` of the sequence b that packed row n belongs to: ``(N, ...)``."""
    return rows.take(packing.backend.asarray(packing.sequences), axis=0)


def total(data: Array, packing: Packing) -> Array:
    """``out[b] = sum of data[n]`` over the packed rows n of sequence b: ``(B, D)``."""
    sequences = packing.backend.asarray(packing.sequences)
    return packing.backend.segment_sum(data, sequences, len(packing.lengths))


def padded_with_lowest(data: Array, packing: Packing) -> Array:
    """The real part as ``(T, B, ...)``, minus infinity where a sequence has ended: for a maximum.

    For complex data, whose imaginary part is a direction of change, the real part decides.
    """
    steps, batch = len(packing.batch_sizes), len(packing.lengths)
    real = data.real
    shape = (steps * batch, *data.shape[1:])
    flat: Array = packing.backend.xp.full(shape, -float("inf"), dtype=real.dtype)
    flat[packing.padded_rows()] = real
    return flat.reshape(steps, batch, *data.shape[1:])


def require_rows(data: Rows, packing: Packing, name: str = "x") -> None:
    """Raise :class:`InputError` where ``data`` has not one row for each packed row."""
    if len(data) != packing.rows:
        raise InputError(
            f"{name} has {len(data)} rows for a packing of {packing.rows} rows; "
            f"pack it with pack_padded_sequence and these lengths"
        )
