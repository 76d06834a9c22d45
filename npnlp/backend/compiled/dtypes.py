"""Which arrays compiled loops take."""

from __future__ import annotations

from npnlp.backend.operations import Array

#: The types that loops are compiled for, as NumPy's characters: float32 and float64.
REALS = "fd"


def are_reals(*arrays: Array) -> bool:
    """Whether all are of one real type."""
    dtype = arrays[0].dtype
    for array in arrays:  # a third of the time of all()
        if array.dtype != dtype:
            return False
    return dtype.char in REALS


def are_contiguous_reals(*arrays: Array) -> bool:
    """Whether all are contiguous and of one real type."""
    dtype = arrays[0].dtype
    for array in arrays:
        its = array.dtype  # an unpickled one is equal, and not the same
        if (its is not dtype and its != dtype) or not array.flags.c_contiguous:
            return False
    return dtype.char in REALS
