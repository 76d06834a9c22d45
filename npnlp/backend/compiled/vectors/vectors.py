"""Elementwise formulas on rows of arrays, generated as vector code.

A compiler that vectorizes a loop tests every two arrays for overlap, and the units of one thread
are often too few for the loop that it makes. A formula of :func:`rowwise` or :func:`picked` is
vector code from the start: it loads its inputs, computes in registers, and then stores. A number
has the same bits in any column.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from npnlp.backend.compiled.vectors.tile import INDEX, Matrix, everywhere

REALS: dict[str, Any] = {"float": np.float32, "double": np.float64}
BIT, INT = ir.IntType(1), ir.IntType(32)


class Number:
    """A number or a vector in generated code; its operators generate instructions.

    A multiplication and an addition may be fused (:mod:`npnlp.backend.compiled.vectors.kernel`).
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
        """The value of ``other``; a Python number in every lane."""
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
        """``instead`` where ``self < limit`` (or another ``compared``), else ``otherwise``."""
        asked = self.builder.fcmp_ordered(compared, self.value, self.like(limit))
        chosen = self.builder.select(asked, self.like(instead), self.like(otherwise))
        return Number(self.builder, chosen)

    def larger(self, other: Any) -> Number:
        """``self`` where it is larger than ``other``, else ``other``."""
        return self.where(">", other, self, other)

    def within(self, limit: float) -> Number:
        """Clipped to the range from ``-limit`` to ``limit``; NaN stays."""
        below = self.where(">", limit, limit, self)
        return below.where("<", -limit, -limit, below)

    def power_of_two(self) -> Number:
        """``2^n`` for the n in the lowest bits."""
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
    """``formula`` for one float32 or float64, to be called in compiled functions."""

    @intrinsic  # type: ignore[untyped-decorator]
    def compute(context: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return formula(Number(builder, arguments[0])).value

        return x(x), generate

    return compute


def rowwise(formula: Callable[..., tuple[Any, ...]]) -> Any:
    """``run(given, found, low, high)`` for compiled functions: ``formula``, elementwise.

    ``found[k][b, j] = formula(given[0][b, j], given[1][b, j], ...)[k]`` for all rows b and the
    columns j from ``low`` to ``high``. ``given`` and ``found`` are tuples of arrays of two axes
    with contiguous rows; an array may be in both. Nothing is checked.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def run(context: Any, given: Any, found: Any, low: Any, high: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            sources, targets = (_arrays(context, builder, signature, arguments, k) for k in (0, 1))
            low, high = _places(context, builder, signature, arguments, 2)
            own = _Columns(builder, formula, sources, targets, low, high)
            with cgutils.for_range(builder, sources[0].shape[0]) as row:
                own.compute([row.index] * len(sources), [row.index] * len(targets))
            return context.get_dummy_value()

        return types.void(given, found, low, high), generate

    return run


def picked(formula: Callable[..., tuple[Any, ...]]) -> Any:
    """``run(given, rows, found, target, first, last)`` for compiled functions: on rows looked up.

    ``found[m][target[k]] = formula(given[0][rows[0][k]], given[1][rows[1][k]], ...)[m]`` for k from
    ``first`` to ``last``. ``given`` and ``found`` are as for :func:`rowwise`; ``rows`` has an array
    ``(n,)`` for each of ``given``; ``target (n,)``.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def run(
        context: Any, given: Any, rows: Any, found: Any, target: Any, first: Any, last: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            sources, picks, targets = (
                _arrays(context, builder, signature, arguments, k) for k in (0, 1, 2)
            )
            at = Matrix(context, builder, signature.args[3], arguments[3])
            first, last = _places(context, builder, signature, arguments, 4)
            own = _Columns(builder, formula, sources, targets, INDEX(0), sources[0].shape[1])
            with cgutils.for_range_slice(builder, first, last, INDEX(1)) as (k, _):
                row = _entry(at, k)
                own.compute([_entry(pick, k) for pick in picks], [row] * len(targets))
            return context.get_dummy_value()

        return types.void(given, rows, found, target, first, last), generate

    return run


def _arrays(context: Any, builder: Any, signature: Any, arguments: Any, k: int) -> list[Matrix]:
    """The arrays of the tuple ``arguments[k]``."""
    return [
        Matrix(context, builder, kind, builder.extract_value(arguments[k], place))
        for place, kind in enumerate(signature.args[k].types)
    ]


def _places(context: Any, builder: Any, signature: Any, arguments: Any, first: int) -> list[Any]:
    """The integers among the arguments, from ``first`` on, as indices."""
    return [
        context.cast(builder, value, kind, types.intp)
        for value, kind in zip(arguments[first:], signature.args[first:], strict=True)
    ]


def _entry(array: Matrix, k: Any) -> Any:
    """The integer ``array[k]``, as an index."""
    found = array.load(array.at(k), array.number)
    return array.builder.sext(found, INDEX) if found.type.width < INDEX.width else found


class _Columns:
    """A formula at the columns ``low`` to ``high`` of a row: full vectors, then a masked one."""

    def __init__(
        self, builder: Any, formula: Callable[..., tuple[Any, ...]], sources: list[Matrix],
        targets: list[Matrix], low: Any, high: Any,
    ) -> None:  # fmt: skip
        self.builder, self.formula, self.sources, self.targets = builder, formula, sources, targets
        self.lanes = sources[0].vector.count
        self.low, self.left = low, builder.srem(builder.sub(high, low), INDEX(self.lanes))
        self.whole = builder.sub(high, self.left)
        places = ir.Constant(ir.VectorType(INDEX, self.lanes), list(range(self.lanes)))
        self.mask = builder.icmp_signed("<", places, everywhere(builder, self.left, places.type))

    def compute(self, rows: list[Any], target_rows: list[Any]) -> None:
        """One row of each array."""
        builder, start = self.builder, INDEX(0)
        sources = [
            (array, array.at(row, start)) for array, row in zip(self.sources, rows, strict=True)
        ]
        targets = [
            (array, array.at(row, start))
            for array, row in zip(self.targets, target_rows, strict=True)
        ]

        def vector(j: Any, mask: Any) -> None:
            given = [
                Number(builder, _load(array, _along(array, address, j), mask))
                for array, address in sources
            ]
            for (array, address), number in zip(targets, self.formula(*given), strict=True):
                _store(array, given[0].like(number), _along(array, address, j), mask)

        with cgutils.for_range_slice(builder, self.low, self.whole, INDEX(self.lanes)) as (j, _):
            vector(j, None)
        with builder.if_then(builder.icmp_signed(">", self.left, INDEX(0))):
            vector(self.whole, self.mask)


def _along(array: Matrix, address: Any, j: Any) -> Any:
    """The address of column j of a row that begins at ``address``."""
    return array.builder.add(address, array.builder.mul(j, INDEX(array.bytes)))


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
    """LLVM's masked load or store."""
    builder, pointer = array.builder, array.vector.as_pointer()
    given = [builder.inttoptr(value, pointer) if value.type == INDEX else value
             for value in arguments]  # fmt: skip
    of_type = ir.FunctionType(result, [value.type for value in given])
    name = f"llvm.masked.{what}.v{array.vector.count}f{8 * array.bytes}.p0"
    return builder.call(cgutils.get_or_insert_function(builder.module, of_type, name), given)
