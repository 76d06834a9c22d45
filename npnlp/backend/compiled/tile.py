"""A tile of a matrix product: sums that stay in the registers of the processor until they are done.

    out[i, j] += sum_k x[i, k] w[k, j]        for R rows i and the columns j of S panels

A panel is ``WIDTH`` columns of the weights that lie together, ``(K, width)``. For each k, the
processor reads a row of the panel once, as vectors, and each of the R numbers ``x[i, k]``; every
product is added where the sums are, and memory is written to only at the end. With 8 rows there are
two operations for each number that is read, as many as a processor can keep up with.

Each sum is taken in the order of k, whatever the other rows are: a row of a result has the same
bits in any batch. Loops cannot say which numbers to keep in registers; LLVM, which compiles what
Numba hands it, can be told, by naming each vector. Source of the scheme: Goto and van de Geijn,
"Anatomy of high-performance matrix multiplication", 2008.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

#: Bytes of a row of a panel, and of the vectors that it is read as; a processor whose vectors are
#: shorter takes several.
ROW, VECTOR = 128, 64
INDEX = ir.IntType(64)


def _has_long_vectors() -> bool:
    asked = config.CPU_FEATURES
    features = binding.get_host_cpu_features().flatten() if asked is None else asked
    return "+avx512f" in features.split(",")


#: Rows of a tile, as many as there are registers for.
MOST_ROWS = 8 if _has_long_vectors() else 2


def panel_width(dtype: Any) -> int:
    """Columns of a panel: 32 of float32, 16 of float64."""
    return ROW // np.dtype(dtype).itemsize


class _Matrix:
    """Where the numbers of a two- or three-dimensional array lie, for LLVM."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        array = context.make_array(kind)(context, builder, value)
        self.builder, self.number = builder, context.get_value_type(kind.dtype)
        self.address = builder.ptrtoint(array.data, INDEX)
        self.strides = cgutils.unpack_tuple(builder, array.strides)
        self.shape = cgutils.unpack_tuple(builder, array.shape)

    def at(self, *place: Any) -> Any:
        """The address of the number at ``place``, values of LLVM or whole numbers."""
        address = self.address
        for index, stride in zip(place, self.strides, strict=True):
            whole = INDEX(index) if isinstance(index, int) else index
            address = self.builder.add(address, self.builder.mul(whole, stride))
        return address


def _load(builder: Any, address: Any, kind: Any, align: int) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=align)


def make_tile(rows: int, panels: int) -> Callable[..., None]:
    """``tile(x, i, weights, p, out, r, j)``: ``out[r:, j:] += x[i:i + R] weights[p:p + S]``.

    ``R`` is ``rows`` and ``S`` ``panels``; ``x (b, K)`` and ``out (b, n)`` may have any strides
    between rows, ``weights (P, K, width)`` lies together. Nothing is checked.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        context: Any, x: Any, i: Any, weights: Any, p: Any, out: Any, r: Any, j: Any
    ) -> tuple[Any, Any]:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kinds = signature.args
            matrices = {
                place: _Matrix(context, builder, kinds[place], arguments[place])
                for place in (0, 2, 4)
            }
            first = {
                place: context.cast(builder, arguments[place], kinds[place], types.intp)
                for place in (1, 3, 5, 6)
            }
            _accumulate(builder, rows, panels, *(
                matrices.get(place) or first[place] for place in range(7)
            ))  # fmt: skip
            return context.get_dummy_value()

        return types.void(x, i, weights, p, out, r, j), generate

    return tile  # type: ignore[no-any-return]


def _accumulate(
    builder: Any, rows: int, panels: int, x: Any, i: Any, weights: Any, p: Any, out: Any, r: Any,
    j: Any,
) -> None:  # fmt: skip
    """The loop over k, with ``rows`` times ``panels * ROW / VECTOR`` sums."""
    number, size = x.number, 4 if x.number == ir.FloatType() else 8
    vector = ir.VectorType(number, VECTOR // size)
    within, each = ROW // VECTOR, panels * (ROW // VECTOR)
    places = [
        [
            builder.add(out.at(builder.add(r, INDEX(row)), j), INDEX(VECTOR * part))
            for part in range(each)
        ]
        for row in range(rows)
    ]
    sums = [[_load(builder, place, vector, size) for place in of_row] for of_row in places]
    left = [x.at(builder.add(i, INDEX(row)), 0) for row in range(rows)]
    right = [weights.at(builder.add(p, INDEX(panel)), 0, 0) for panel in range(panels)]

    before = builder.block
    loop, done = builder.append_basic_block("k"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed(">", x.shape[1], INDEX(0)), loop, done)
    builder.position_at_end(loop)
    k = builder.phi(INDEX)
    k.add_incoming(INDEX(0), before)
    now = [[_phi(builder, value, before) for value in of_row] for of_row in sums]
    row_of_panel = builder.mul(k, weights.strides[1])
    columns = [
        _load(builder, builder.add(builder.add(right[part // within], row_of_panel),
                                   INDEX(VECTOR * (part % within))), vector, size)
        for part in range(each)
    ]  # fmt: skip
    column_of_x = builder.mul(k, x.strides[1])
    new = []
    for row in range(rows):
        factor = _load(builder, builder.add(left[row], column_of_x), number, size)
        every = _splat(builder, factor, vector)
        new.append([
            builder.fadd(builder.fmul(every, column, flags=("contract",)), value,
                         flags=("contract",))
            for column, value in zip(columns, now[row], strict=True)
        ])  # fmt: skip
    following = builder.add(k, INDEX(1))
    k.add_incoming(following, loop)
    for old, value in zip(_flat(now), _flat(new), strict=True):
        old.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, x.shape[1]), loop, done)
    builder.position_at_end(done)
    totals = []
    for start, value in zip(_flat(sums), _flat(new), strict=True):
        total = _phi(builder, start, before)
        total.add_incoming(value, loop)
        totals.append(total)
    for place, total in zip(_flat(places), totals, strict=True):
        builder.store(total, builder.inttoptr(place, vector.as_pointer()), align=size)


def _phi(builder: Any, start: Any, before: Any) -> Any:
    """A value that is ``start`` when the loop is entered."""
    value = builder.phi(start.type)
    value.add_incoming(start, before)
    return value


def _splat(builder: Any, number: Any, vector: Any) -> Any:
    """The vector that has ``number`` everywhere."""
    nothing, index = ir.Constant(vector, ir.Undefined), ir.IntType(32)
    one = builder.insert_element(nothing, number, index(0))
    zeros = ir.Constant(ir.VectorType(index, vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, nothing, zeros)


def _flat(rows: list[list[Any]]) -> list[Any]:
    return [value for row in rows for value in row]
