"""A tile of a matrix product, whose sums stay in registers until they are complete.

    out[i, j] += sum_k x[i, k] w[k, j]        for R rows i and the columns j of a panel

A panel is ``width`` contiguous columns of the weights, ``(K, width)``. For each k, a row of the
panel is loaded once, as vectors, and each of the R numbers ``x[i, k]``. Memory is written only at
the end. With 8 rows there are enough multiplications for each load to use the processor fully.

Each sum is taken in the order of k, so a row has the same bits in any batch. A Python loop cannot
say which numbers stay in registers, so the tile is generated as LLVM code, with a name for each
vector. Source of the scheme: Goto and van de Geijn, "Anatomy of high-performance matrix
multiplication", 2008.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic

#: Bytes of a row of a panel, and of a vector; a processor with shorter vectors uses several.
ROW, VECTOR = 128, 64
INDEX = ir.IntType(64)


def _has_long_vectors() -> bool:
    asked = config.CPU_FEATURES
    features = binding.get_host_cpu_features().flatten() if asked is None else asked
    return "+avx512f" in features.split(",")


#: The most rows of a tile that the registers can hold.
MOST_ROWS = 8 if _has_long_vectors() else 2


class Matrix:
    """The address and strides of an array, with LLVM's loads and stores of its numbers."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        array = context.make_array(kind)(context, builder, value)
        self.builder, self.number = builder, context.get_value_type(kind.dtype)
        self.bytes = context.get_abi_sizeof(self.number)
        self.vector = ir.VectorType(self.number, VECTOR // self.bytes)
        self.address = builder.ptrtoint(array.data, INDEX)
        self.strides = cgutils.unpack_tuple(builder, array.strides)
        if kind.layout == "C":  # a number that is known makes better code
            self.strides[-1] = INDEX(self.bytes)
        self.shape = cgutils.unpack_tuple(builder, array.shape)

    def at(self, *place: Any) -> Any:
        """The address of the number at ``place``."""
        address = self.address
        for index, stride in zip(place, self.strides, strict=True):
            address = self.builder.add(address, self.builder.mul(index, stride))
        return address

    def load(self, address: Any, kind: Any) -> Any:
        """Load a number or a vector."""
        return self.builder.load(
            self.builder.inttoptr(address, kind.as_pointer()), align=self.bytes
        )

    def store(self, value: Any, address: Any) -> None:
        """Store a number or a vector."""
        pointer = self.builder.inttoptr(address, value.type.as_pointer())
        self.builder.store(value, pointer, align=self.bytes)


def _given(context: Any, builder: Any, signature: Any, arguments: Any) -> list[Any]:
    """The arguments: arrays as :class:`Matrix`, integers as indices."""
    return [
        Matrix(context, builder, kind, value) if isinstance(kind, types.Array)
        else context.cast(builder, value, kind, types.intp)
        for kind, value in zip(signature.args, arguments, strict=True)
    ]  # fmt: skip


@intrinsic  # type: ignore[untyped-decorator]
def loose(context: Any, array: Any) -> tuple[Any, Any]:
    """``array``, whose type says nothing of its strides.

    Numba compiles a function again for an array that is known to be contiguous.
    """
    strided = array.copy(layout="A")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = context.cast(builder, arguments[0], array, strided)
        return impl_ret_borrowed(context, builder, strided, value)

    return strided(array), generate


@intrinsic  # type: ignore[untyped-decorator]
def copy_row(
    context: Any, source: Any, i: Any, j: Any, panels: Any, p: Any, k: Any
) -> tuple[Any, Any]:
    """``panels[p, k] = source[i, j : j + width]``, for contiguous columns.

    All loads come before the stores, so no test for overlap is needed. Nothing is checked.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, i, j, panels, p, k = _given(context, builder, signature, arguments)
        steps = [INDEX(v * VECTOR // source.bytes) for v in range(ROW // VECTOR)]
        values = [source.load(source.at(i, builder.add(j, step)), source.vector) for step in steps]
        for value, step in zip(values, steps, strict=True):
            panels.store(value, panels.at(p, k, step))
        return context.get_dummy_value()

    return types.void(source, i, j, panels, p, k), generate


@intrinsic  # type: ignore[untyped-decorator]
def turn_square(context: Any, source: Any, i: Any, j: Any, panel: Any) -> tuple[Any, Any]:
    """``panel[i:i + n, j:j + n] = source[i:i + n, j:j + n]``, n the length of a vector.

    Columns of ``source`` and rows of ``panel`` are contiguous. Nothing is checked.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, i, j, panel = _given(context, builder, signature, arguments)
        along = [builder.add(j, INDEX(k)) for k in range(source.vector.count)]
        down = [builder.add(i, INDEX(k)) for k in range(source.vector.count)]
        columns = [source.load(source.at(i, at), source.vector) for at in along]
        for row, at in zip(_turned(builder, columns), down, strict=True):
            panel.store(row, panel.at(at, j))
        return context.get_dummy_value()

    return types.void(source, i, j, panel), generate


def _turned(builder: Any, vectors: list[Any]) -> list[Any]:
    """The transpose of a square: n vectors of n numbers, n a power of two.

    For each distance n / 2, n / 4, ..., 1, vectors at that distance exchange blocks of that length.
    """
    n, now = len(vectors), list(vectors)
    mask = ir.VectorType(ir.IntType(32), n)
    distance = n // 2
    while distance:
        first = [k if not k & distance else n + k - distance for k in range(n)]
        second = [k + distance if not k & distance else n + k for k in range(n)]
        for k in range(n):
            if not k & distance:
                pair = now[k], now[k + distance]
                for at, places in ((k, first), (k + distance, second)):
                    now[at] = builder.shuffle_vector(*pair, ir.Constant(mask, places))
        distance //= 2
    return now


def make_tile(
    rows: int, parts: int = 1, how: str = "onward", beside: int = 1
) -> Callable[..., None]:
    """``tile(x, i, weights, p, out, r, j)``: ``out[r:, j:] += x[i:i + R] weights[p]``.

    ``R`` is ``rows``; the first ``width / parts`` columns of the panel are used, and of as many
    panels from p on as are taken ``beside`` each other. ``how`` a sum
    begins: ``"onward"`` from out, ``"apart"`` from 0, with out added at the end, or ``"anew"``,
    where it replaces out. ``x (b, K)`` may have any strides, the rows of ``out (b, n)`` and of
    ``weights (P, K, width)`` are contiguous, the latter one after another. Nothing is checked.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        context: Any, x: Any, i: Any, weights: Any, p: Any, out: Any, r: Any, j: Any
    ) -> tuple[Any, Any]:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            given = _given(context, builder, signature, arguments)
            _add_tile(builder, rows, ROW // VECTOR // parts, beside, how, *given)
            return context.get_dummy_value()

        return types.void(x, i, weights, p, out, r, j), generate

    return tile  # type: ignore[no-any-return]


def _add_tile(
    builder: Any, rows: int, vectors: int, panels: int, how: str, x: Matrix, i: Any,
    weights: Matrix, p: Any, out: Matrix, r: Any, j: Any,
) -> None:  # fmt: skip
    """Generate the loop over k for ``rows x panels x vectors`` vectors of sums."""
    add, mul, start = builder.add, builder.mul, builder.block
    loop, done = builder.append_basic_block("k"), builder.append_basic_block("done")
    of_vector = VECTOR // x.bytes
    x_at = [x.at(add(i, INDEX(row)), INDEX(0)) for row in range(rows)]
    in_panels = [weights.at(add(p, INDEX(panel)), INDEX(0), INDEX(0)) for panel in range(panels)]
    weights_at = [add(at, INDEX(v * VECTOR)) for at in in_panels for v in range(vectors)]
    vectors *= panels  # those of several panels follow each other
    column = mul(j, INDEX(out.bytes))
    out_rows = [add(out.at(add(r, INDEX(row)), INDEX(0)), column) for row in range(rows)]
    out_at = [add(at, INDEX(v * VECTOR)) for at in out_rows for v in range(vectors)]
    zeros = ir.Constant(out.vector, [0.0] * of_vector)
    sums = [out.load(at, out.vector) if how == "onward" else zeros for at in out_at]
    builder.cbranch(builder.icmp_signed(">", x.shape[1], INDEX(0)), loop, done)

    builder.position_at_end(loop)
    k = _changing(builder, INDEX(0), start)
    now = [_changing(builder, value, start) for value in sums]
    row_of_weights = [
        weights.load(add(address, mul(k, INDEX(ROW))), x.vector) for address in weights_at
    ]
    new = []
    for row, address in enumerate(x_at):
        number = x.load(add(address, mul(k, x.strides[1])), x.number)
        numbers = everywhere(builder, number, x.vector)
        for v, weight in enumerate(row_of_weights):
            product = builder.fmul(numbers, weight, flags=("contract",))
            new.append(builder.fadd(product, now[row * vectors + v], flags=("contract",)))
    following = add(k, INDEX(1))
    for changing, value in zip([k, *now], [following, *new], strict=True):
        changing.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, x.shape[1]), loop, done)

    builder.position_at_end(done)
    totals = [_changing(builder, value, start) for value in sums]
    for total, value in zip(totals, new, strict=True):
        total.add_incoming(value, loop)
    for total, address in zip(totals, out_at, strict=True):
        if how == "apart":
            total = builder.fadd(out.load(address, out.vector), total)
        out.store(total, address)


def _changing(builder: Any, value: Any, block: Any) -> Any:
    """A phi node that is ``value`` on entry from ``block``."""
    changing = builder.phi(value.type)
    changing.add_incoming(value, block)
    return changing


def everywhere(builder: Any, number: Any, vector: Any) -> Any:
    """A vector with ``number`` in every lane."""
    nothing, index = ir.Constant(vector, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(nothing, number, index(0))
    places = ir.Constant(ir.VectorType(index, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, nothing, places)
