"""Which arrays compiled loops take."""

from __future__ import annotations

import numpy as np

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


def plain(array: Array) -> Array:
    """``array``, or a copy of one that is not contiguous, aligned and writeable.

    Numba compiles anew, for seconds, for an array that is not.
    """
    return array if array.flags.carray else array.copy()


def plain_indices(indices: Array) -> Array:
    """The same for whole numbers, as int64."""
    return plain(indices.astype(np.int64, copy=False))


def are_contiguous_reals(*arrays: Array) -> bool:
    """Whether all are of one real type, and contiguous, aligned and writeable."""
    dtype = arrays[0].dtype
    for array in arrays:
        its = array.dtype  # an unpickled one is equal, and not the same
        if (its is not dtype and its != dtype) or not array.flags.carray:
            return False
    return dtype.char in REALS
