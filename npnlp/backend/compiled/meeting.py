"""Where threads wait for each other inside a compiled loop."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from npnlp.backend.base import Array
from npnlp.backend.compiled.kernel import inner


@intrinsic  # type: ignore[untyped-decorator]
def _arrive(context: Any, arrivals: Any) -> tuple[Any, Any]:
    """Add 1 to ``arrivals[0]``, as one operation that all threads see in the same order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        one = ir.Constant(ir.IntType(64), 1)
        builder.atomic_rmw("add", array.data, one, "seq_cst")
        return context.get_dummy_value()

    return types.void(arrivals), generate


@intrinsic  # type: ignore[untyped-decorator]
def _arrived(context: Any, arrivals: Any) -> tuple[Any, Any]:
    """``arrivals[0]``, with all that other threads wrote before they arrived."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.load_atomic(array.data, "seq_cst", 8)

    return types.int64(arrivals), generate


@inner
def meet(arrivals: Array, threads: int, before: int) -> None:
    """Go on when all ``threads`` are here, which have met so often ``before``.

    ``arrivals (1,)`` int64 is zero at first. A step takes microseconds: to be woken by the system
    would take longer, so who is early turns on the spot.
    """
    if threads > 1:
        _arrive(arrivals)
        while _arrived(arrivals) < threads * (before + 1):
            pass
