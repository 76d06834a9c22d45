"""Formulas on rows of arrays, as vectors of the processor's own length.

Before a compiler turns a loop into vectors it has to ask, of every two arrays, whether they
overlap; and a row of a thread's units is often too short for what it makes of the loop. A formula
of :func:`rowwise` is told in vectors from the start, reads all that it needs before it writes, and
keeps what is between in registers. Each number of a row has the same bits wherever it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from npnlp.backend.compiled.tile import INDEX, Matrix, everywhere

REALS: dict[str, Any] = {"float": np.float32, "double": np.float64}
BIT, INT = ir.IntType(1), ir.IntType(32)


class Number:
    """A number, or a vector of them, that code is generated to compute with.

    A product and a sum may become one instruction, as everywhere in this folder
    (:mod:`npnlp.backend.compiled.kernel`).
    """

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value, self.kind = builder, value, value.type
        self.real = REALS[str(self._one(self.kind))]

    @staticmethod
    def _one(kind: Any) -> Any:
        return kind.element if isinstance(kind, ir.VectorType) else kind

    def _constant(self, number: Any, kind: Any) -> Any:
        if isinstance(kind, ir.VectorType):
            return ir.Constant(kind, [number] * kind.count)
        return ir.Constant(kind, number)

    def like(self, other: Any) -> Any:
        """The value of ``other``, or so many of a plain number as this one has."""
        if isinstance(other, Number):
            return other.value
        return self._constant(float(self.real(other)), self.kind)

    def _found(self, operation: str, left: Any, right: Any) -> Number:
        call = getattr(self.builder, operation)
        return Number(self.builder, call(left, right, flags=("contract",)))

    def __add__(self, other: Any) -> Number:
        return self._found("fadd", self.value, self.like(other))

    def __sub__(self, other: Any) -> Number:
        return self._found("fsub", self.value, self.like(other))

    def __rsub__(self, other: Any) -> Number:
        return self._found("fsub", self.like(other), self.value)

    def __mul__(self, other: Any) -> Number:
        return self._found("fmul", self.value, self.like(other))

    def __truediv__(self, other: Any) -> Number:
        return self._found("fdiv", self.value, self.like(other))

    __radd__, __rmul__ = __add__, __mul__

    def where(self, compared: str, limit: float, instead: Any, otherwise: Any) -> Number:
        """``instead`` where this is so ``compared`` to the limit, and ``otherwise``."""
        asked = self.builder.fcmp_ordered(compared, self.value, self.like(limit))
        chosen = self.builder.select(asked, self.like(instead), self.like(otherwise))
        return Number(self.builder, chosen)

    def within(self, limit: float) -> Number:
        """The nearest number from ``-limit`` to ``limit``; what is not a number stays."""
        below = self.where(">", limit, limit, self)
        return below.where("<", -limit, -limit, below)

    def power_of_two(self) -> Number:
        """``2^n`` where n is in the lowest bits of this."""
        builder, bits = self.builder, 8 * np.dtype(self.real).itemsize
        whole: Any = ir.IntType(bits)
        if isinstance(self.kind, ir.VectorType):
            whole = ir.VectorType(whole, self.kind.count)
        of_one = int(self.real(1).view(f"i{bits // 8}"))
        shift = self._constant(np.finfo(self.real).nmant, whole)
        moved = builder.shl(builder.bitcast(self.value, whole), shift)
        moved = builder.add(moved, self._constant(of_one, whole))
        return Number(builder, builder.bitcast(moved, self.kind))


def of_one(formula: Callable[[Number], Number]) -> Any:
    """``formula`` of a float32 or a float64, in compiled functions."""

    @intrinsic  # type: ignore[untyped-decorator]
    def compute(context: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return formula(Number(builder, arguments[0])).value

        return x(x), generate

    return compute


def rowwise(formula: Callable[..., tuple[Any, ...]]) -> Any:
    """``run(given, found, low, high)``, in compiled functions: ``formula`` at each place.

    ``found[k][b, j] = formula(given[0][b, j], given[1][b, j], ...)[k]`` for all rows b and the
    columns j from ``low`` to ``high``. ``given`` and ``found`` are tuples of arrays of two axes,
    the columns of each together, and an array may be in both. Nothing is checked.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def run(context: Any, given: Any, found: Any, low: Any, high: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            sources, targets = (
                [Matrix(context, builder, kind, builder.extract_value(value, k))
                 for k, kind in enumerate(kinds.types)]
                for kinds, value in zip(signature.args[:2], arguments[:2], strict=True)
            )  # fmt: skip
            low, high = (
                context.cast(builder, value, kind, types.intp)
                for value, kind in zip(arguments[2:], signature.args[2:], strict=True)
            )
            _generate(builder, formula, sources, targets, low, high)
            return context.get_dummy_value()

        return types.void(given, found, low, high), generate

    return run


def _generate(
    builder: Any, formula: Callable[..., tuple[Any, ...]], sources: list[Matrix],
    targets: list[Matrix], low: Any, high: Any,
) -> None:  # fmt: skip
    """Whole vectors, and of each row what is left as one of which some places are masked."""
    lanes = sources[0].vector.count
    left = builder.srem(builder.sub(high, low), INDEX(lanes))
    whole = builder.sub(high, left)
    places = ir.Constant(ir.VectorType(INDEX, lanes), list(range(lanes)))
    mask = builder.icmp_signed("<", places, everywhere(builder, left, places.type))

    def compute(b: Any, j: Any, mask: Any) -> None:
        given = [Number(builder, _load(array, array.at(b, j), mask)) for array in sources]
        for array, number in zip(targets, formula(*given), strict=True):
            _store(array, given[0].like(number), array.at(b, j), mask)

    with cgutils.for_range(builder, sources[0].shape[0]) as row:
        with cgutils.for_range_slice(builder, low, whole, INDEX(lanes)) as (j, _):
            compute(row.index, j, None)
        with builder.if_then(builder.icmp_signed(">", left, INDEX(0))):
            compute(row.index, whole, mask)


def _load(array: Matrix, address: Any, mask: Any) -> Any:
    if mask is None:
        return array.load(address, array.vector)
    zeros = ir.Constant(array.vector, [0.0] * array.vector.count)
    return _masked("load", array, [address, INT(array.bytes), mask, zeros], array.vector)


def _store(array: Matrix, value: Any, address: Any, mask: Any) -> None:
    if mask is None:
        array.store(value, address)
    else:
        _masked("store", array, [value, address, INT(array.bytes), mask], ir.VoidType())


def _masked(what: str, array: Matrix, arguments: list[Any], result: Any) -> Any:
    """LLVM's way to read and write a vector of which some places do not exist."""
    builder, pointer = array.builder, array.vector.as_pointer()
    given = [builder.inttoptr(value, pointer) if value.type == INDEX else value
             for value in arguments]  # fmt: skip
    of_type = ir.FunctionType(result, [value.type for value in given])
    name = f"llvm.masked.{what}.v{array.vector.count}f{8 * array.bytes}.p0"
    return builder.call(cgutils.get_or_insert_function(builder.module, of_type, name), given)
