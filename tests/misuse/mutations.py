"""Ways to give an argument wrongly, and ways that are unusual but right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]


@dataclass(frozen=True)
class Mutation:
    """``make(values)`` is what is given instead; ``right`` where it stands for the same numbers."""

    name: str
    make: Callable[[Values], Any]
    right: bool = False


def strided(values: Values) -> Values:
    """Every second element of each axis of a larger array."""
    wide = np.zeros([2 * size for size in values.shape], values.dtype)
    view = wide[(slice(None, None, 2),) * values.ndim]
    view[...] = values
    return view


def unaligned(values: Values) -> Values:
    copy = np.frombuffer(b"x" + values.tobytes(), np.uint8)[1:].view(values.dtype)
    return copy.reshape(values.shape)


def read_only(values: Values) -> Values:
    copy = values.copy()
    copy.flags.writeable = False
    return copy


def backwards(values: Values) -> Values:
    return values[::-1].copy()[::-1]


#: The same numbers, laid out in another way.
LAID_OUT = [
    Mutation("strided", strided, right=True),
    Mutation("Fortran order", np.asfortranarray, right=True),
    Mutation("backwards", backwards, right=True),
    Mutation("read-only", read_only, right=True),
    Mutation("not aligned", unaligned, right=True),
]
#: What is no array of the sort that was asked for.
NO_ARRAYS = [
    Mutation("None", lambda values: None),
    Mutation("a list", lambda values: values.tolist()),
    Mutation("a number", lambda values: 1.5),
    Mutation("a text", lambda values: "3"),
    Mutation("a NumPy scalar", lambda values: values.dtype.type(1)),
    Mutation("bool", lambda values: values.astype(bool)),
    Mutation("object", lambda values: values.astype(object)),
    Mutation("big-endian", lambda values: values.astype(values.dtype.newbyteorder(">"))),
    Mutation("masked", lambda values: np.ma.masked_array(values)),
]
SHAPES = [
    Mutation("one more axis", lambda values: values[None]),
    Mutation("no axes", lambda values: values.reshape(-1)[:1].reshape(())),
]
ROWS = [
    Mutation("a row too many", lambda values: np.concatenate([values, values[:1]])),
    Mutation("a row less", lambda values: values[:-1].copy()),
    Mutation("twice the rows", lambda values: np.concatenate([values, values])),
    Mutation("no rows", lambda values: values[:0]),
]
COLUMNS = [
    Mutation("a column too many", lambda v: np.concatenate([v, v[..., :1]], axis=-1)),
    Mutation("a column less", lambda values: values[..., :-1].copy()),
    Mutation("no columns", lambda values: values[..., :0]),
    Mutation("flat", lambda values: values.reshape(-1)),
    Mutation("transposed", lambda values: values.T.copy()),
    Mutation("one row", lambda values: values[:1].copy()),
    Mutation("one column", lambda values: values[..., :1].copy()),
]
OTHER_REALS = [
    Mutation("float16", lambda values: values.astype(np.float16)),
    Mutation("float32", lambda values: values.astype(np.float32)),
    Mutation("complex", lambda values: values.astype(complex)),
]
OTHER_WHOLE = [
    Mutation("int32", lambda values: values.astype(np.int32), right=True),
    Mutation("uint8", lambda values: values.astype(np.uint8), right=True),
    Mutation("int16", lambda values: values.astype(np.int16), right=True),
    Mutation("uint64", lambda values: values.astype(np.uint64)),
    Mutation("whole float", lambda values: values.astype(float)),
    Mutation("fractions", lambda values: values + 0.5),
]


def real_mutations(values: Values, *, exact: bool, free: bool, any_shape: bool) -> list[Mutation]:
    """For real numbers; not ``exact``, other types are taken with numbers of their own."""
    shapes = SHAPES + ROWS * (not free) + COLUMNS * (values.ndim > 1)
    whole = [Mutation("whole numbers", lambda v: v.astype(int))]
    found = LAID_OUT + NO_ARRAYS + whole + OTHER_REALS * exact
    return found + [m for m in shapes * (not any_shape) if differs(m, values, free)]


def whole_mutations(values: Values, below: int, *, free: bool) -> list[Mutation]:
    """For whole numbers in ``[0, below)``."""

    def with_one(number: int) -> Callable[[Values], Values]:
        def make(values: Values) -> Values:
            copy = values.copy()
            copy[len(copy) // 2] = number
            return copy

        return make

    out = [
        Mutation(f"one is {n}", with_one(n)) for n in (-1, below, -below, below + 10**6, -(2**62))
    ]
    shapes = SHAPES + ROWS * (not free)
    return LAID_OUT + NO_ARRAYS + OTHER_WHOLE + out * 3 + shapes


def differs(mutation: Mutation, values: Values, free: bool) -> bool:
    """Whether it changes the shape, in a way that is not allowed: the first axis may be free."""
    found = mutation.make(values).shape
    same: bool = found[1:] == values.shape[1:] if free else found == values.shape
    return not same
